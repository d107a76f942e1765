"""Several processes on this machine, through NeMo-Run's torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch.environment import job_environment
from nemo_cosmos.launch.job import Job


class TorchrunLauncher:
    """Runs a job's processes on this machine, one a device.

    Args:
        env_vars: environment variables of every job.
    """

    def __init__(self, env_vars: Mapping[str, object] | None = None) -> None:
        self.env_vars = dict(env_vars or {})

    def check(self, job: Job) -> None:
        """Refuse a job of several machines."""
        if job.resources.num_nodes > 1:
            raise ConfigError(
                f"The job '{job.name}' asks for {job.resources.num_nodes} machines and this site "
                "has one. Set trainer.num_nodes=1 and a layout that fits one machine (--conf "
                "parallel=single), or choose a cluster (--conf cluster=slurm)."
            )

    def run(self, job: Job) -> Path | None:
        """Run the job to its end."""
        self.check(job)
        import nemo_run as run

        from nemo_cosmos.launch.experiment import run_experiment

        # NeMo-Run looks up 'torchrun' and 'python' on the path; they must be this environment's,
        # also where it is not activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        executor = run.LocalExecutor(
            ntasks_per_node=job.resources.devices_per_node,
            launcher="torchrun",
            env_vars=job_environment(job, {"PATH": path, **self.env_vars}),
        )
        run_experiment(job, executor, detach=False)
        return None
