"""Several processes on this machine, through NeMo-Run's torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch.environment import job_environment
from nemo_cosmos.launch.job import Job, Started, command_of
from nemo_cosmos.launch.jobs.local import recorded
from nemo_cosmos.launch.script import command_lines, file_name, render


class TorchrunLauncher:
    """Runs a job's processes on this machine, one a device.

    Args:
        env_vars: environment variables of every job.
    """

    def __init__(self, env_vars: Mapping[str, str] | None = None) -> None:
        self.env_vars = dict(env_vars or {})

    def check(self, job: Job) -> None:
        """Refuse a job of several machines."""
        if job.resources.num_nodes > 1:
            raise ConfigError(
                f"The job '{job.name}' asks for {job.resources.num_nodes} machines and this site "
                "has one. Set trainer.num_nodes=1 and a layout that fits one machine (--conf "
                "parallel=single), or choose a cluster (--on slurm)."
            )

    def script(self, job: Job) -> str:
        """Return the torchrun of each run."""
        self.check(job)
        words = command_of(job)
        size = ["--nproc-per-node", str(job.resources.devices_per_node)]
        through = ["-m", "torch.distributed.run", "--standalone", *size]
        return render(
            "local.sh.j2",
            name=file_name(job.name),
            environment=sorted(job_environment(job, self.env_vars).items()),
            commands=[
                command_lines(sys.executable, [*words, *more], through=through)
                for more in job.variants or [()]
            ],
        )

    def run(self, job: Job) -> Started:
        """Run the job to its end; the runs of a sweep one after the other."""
        self.check(job)
        with recorded(job):
            self._run(job)
        return Started()

    def _run(self, job: Job) -> None:
        import nemo_run as run

        from nemo_cosmos.launch.experiment import run_experiment

        # NeMo-Run looks up 'torchrun' and 'python' on the path; they must be this environment's,
        # also where it is not activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        variables = job_environment(job, {"PATH": path, **self.env_vars})
        for each in _runs(job):
            executor = run.LocalExecutor(
                ntasks_per_node=job.resources.devices_per_node,
                launcher="torchrun",
                env_vars=variables,
            )
            run_experiment(each, executor, detach=False)

    def withdraw(self, started: Started) -> None:
        """Do nothing: the job has ended."""


def _runs(job: Job) -> list[Job]:
    """The runs of a sweep, or the job; after another job its command reads the recipe again."""
    runs = [replace(job, recipe=None, command=[*job.command, *more]) for more in job.variants]
    return runs or [job if job.after is None else replace(job, recipe=None)]
