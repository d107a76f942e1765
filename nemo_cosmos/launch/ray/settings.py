"""What a Ray cluster's file may say, and what is looked at before a job is submitted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch.environment import fabric_variables
from nemo_cosmos.launch.job import Job
from nemo_cosmos.launch.secrets import check_no_secrets
from nemo_cosmos.launch.settings import check_least, check_machines, check_variables

_ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?")
_SECRET_WAY = (
    "Set it in the environment of the cluster's nodes, and name it in cluster.secrets=[{name}]."
)


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """The keys of ``conf/cluster/ray.yaml``; None leaves a choice to the cluster.

    Attributes:
        address: the server of jobs, which is the head node's dashboard.
        python: the interpreter on the nodes; by default that of this process.
        work_dir: the folder in which commands run, on all nodes; by default this process's.
        max_nodes: the most machines that a job may have.
        gpus_per_node: GPUs of a machine; 0 trains on the CPU.
        cpus: cores that a job reserves on each machine.
        resources: further resources that it reserves on each machine, such as ``{rdma: 1}``.
        interface: the network interface that processes meet through.
        ib_devices: InfiniBand devices of the compute network, such as ``mlx5_0,mlx5_3``.
        env_vars: environment variables of every job, besides those of its layout, which they
            replace.
        secrets: names of variables that a job needs from the environment of the nodes.
        retries: how often a job starts again after failures in a row.
        save_s: how long a job may take to save when it is cancelled, in seconds.
        job_dir: folder of scripts on this machine.

    Raises:
        ConfigError: an address or number that cannot be right.
    """

    address: str = "http://127.0.0.1:8265"
    python: str | None = None
    work_dir: str | None = None
    max_nodes: int | None = None
    gpus_per_node: int = 8
    cpus: int = 1
    resources: Mapping[str, str] = field(default_factory=dict)
    interface: str | None = None
    ib_devices: str | None = None
    env_vars: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    retries: int = 0
    save_s: int = 300
    job_dir: str = "outputs/ray"

    def __post_init__(self) -> None:
        """Check what types do not say."""
        if not _ADDRESS.fullmatch(self.address):
            raise ConfigError(
                f"cluster.address is '{self.address}'; it must be that of the head node's "
                "dashboard, such as http://HEAD:8265. HEAD:6379 and ray:// are for programs."
            )
        check_least(self, max_nodes=1, gpus_per_node=0, cpus=0, retries=0, save_s=1)
        for name, amount in self.resources.items():
            if not re.fullmatch(r"\d+(\.\d+)?", amount):
                raise ConfigError(f"cluster.resources.{name} is '{amount}'; it must be a number.")

    @property
    def variables(self) -> dict[str, str]:
        """The site's environment variables: those of its network, and its own."""
        return {**fabric_variables(self.interface, self.ib_devices), **self.env_vars}

    @property
    def job_folder(self) -> Path:
        """The folder of scripts."""
        return Path(self.job_dir).absolute()


def check_ray_job(settings: RaySettings, job: Job) -> None:
    """Refuse what the cluster would refuse later, as far as it can be seen here.

    Raises:
        ConfigError: too many machines or devices, a mount, or a secret that would be written into
            the job.
    """
    check_machines(job, settings.max_nodes, settings.gpus_per_node)
    check_variables(dict.fromkeys(settings.secrets, ""))
    check_no_secrets(job, settings.env_vars, _SECRET_WAY)
    if job.mounts:
        raise ConfigError(
            f"The job '{job.name}' mounts {', '.join(job.mounts)}, and the nodes of a Ray cluster "
            "have their folders already. Leave the mounts out, and give paths as the nodes see "
            "them."
        )
