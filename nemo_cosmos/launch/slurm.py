"""A Slurm cluster, through NeMo-Run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch.environment import job_environment
from nemo_cosmos.launch.job import Job

if TYPE_CHECKING:
    from nemo_run import SlurmExecutor


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """The keys of ``conf/cluster/slurm.yaml``.

    Attributes:
        account: the account that is charged; required.
        partition: the queue.
        time: the time limit, ``HH:MM:SS``.
        container_image: the image of every process, which must hold this package; required.
        container_mounts: ``HOST_PATH:CONTAINER_PATH`` of folders that every job sees.
        mem: memory of a machine; ``"0"`` takes all of it.
        exclusive: whether the job has its machines to itself.
        job_dir: folder of scripts and logs.
        env_vars: environment variables of every job, besides those of its layout
            (:mod:`nemo_cosmos.platform.gpu_environment`), which they replace.
    """

    account: str | None = None
    partition: str = "batch"
    time: str = "04:00:00"
    container_image: str | None = None
    container_mounts: Sequence[str] = ()
    mem: str = "0"
    exclusive: bool = True
    job_dir: str = "outputs/slurm"
    env_vars: Mapping[str, object] = field(default_factory=dict)


class SlurmLauncher:
    """Puts jobs into a Slurm queue.

    Args:
        settings: the site's.
    """

    def __init__(self, settings: SlurmSettings) -> None:
        self.settings = settings

    def check(self, job: Job) -> None:
        """Require an account, and an image, since no published one holds this package."""
        if not self.settings.account:
            raise ConfigError(
                "Slurm needs an account. Set it once with 'nemo-cosmos configure cluster=slurm "
                "cluster.account=NAME', or give --conf cluster.account=NAME."
            )
        if not self.settings.container_image:
            raise ConfigError(
                "Slurm needs a container image with nemo_cosmos: the image you built from our "
                "Dockerfile and pushed to a registry that the cluster reaches. Set it once with "
                "'nemo-cosmos configure cluster.container_image=REGISTRY/IMAGE:TAG', or give "
                "--conf cluster.container_image=REGISTRY/IMAGE:TAG."
            )

    def run(self, job: Job) -> Path | None:
        """Put the job into the queue and return."""
        self.check(job)
        from nemo_cosmos.launch.experiment import run_experiment

        run_experiment(job, self.executor(job), detach=True)
        return None

    def executor(self, job: Job) -> SlurmExecutor:
        """Describe the machines, the container and the queue to NeMo-Run."""
        import nemo_run as run

        settings = self.settings
        return run.SlurmExecutor(
            account=settings.account,
            partition=settings.partition,
            time=settings.time,
            nodes=job.resources.num_nodes,
            ntasks_per_node=job.resources.devices_per_node,
            gpus_per_node=job.resources.devices_per_node,
            mem=settings.mem,
            exclusive=settings.exclusive,
            container_image=settings.container_image,
            container_mounts=[*settings.container_mounts, *job.mounts],
            env_vars=job_environment(job, settings.env_vars),
            tunnel=run.LocalTunnel(job_dir=str(Path(settings.job_dir).absolute())),
            packager=run.Packager(),
            launcher="torchrun",
        )
