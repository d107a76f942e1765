"""One process on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from nemo_cosmos.errors import ConfigError, JobFailedError
from nemo_cosmos.launch.environment import job_environment
from nemo_cosmos.launch.job import COMMAND_MODULE, Job, Started, command_of
from nemo_cosmos.launch.jobs.local import recorded
from nemo_cosmos.launch.script import command_lines, file_name, render


class LocalLauncher:
    """Runs a recipe in this process, and a command in a process of its own.

    Args:
        is_rank: whether another launcher started this process as one of the job's.
        env_vars: environment variables of every job.
    """

    def __init__(self, is_rank: bool = False, env_vars: Mapping[str, str] | None = None) -> None:
        self.is_rank = is_rank
        self.env_vars = dict(env_vars or {})

    def check(self, job: Job) -> None:
        """Refuse a job of several processes, unless this process is one of them."""
        if job.resources.num_processes > 1 and not self.is_rank:
            raise ConfigError(
                f"The job '{job.name}' needs {job.resources.num_processes} processes and this "
                "launcher has one. Use torchrun, or a cluster."
            )

    def script(self, job: Job) -> str:
        """Return the command of each run."""
        self.check(job)
        words = command_of(job)
        return render(
            "local.sh.j2",
            name=file_name(job.name),
            environment=sorted(job_environment(job, self.env_vars).items()),
            commands=[
                command_lines(sys.executable, [*words, *more]) for more in job.variants or [()]
            ],
        )

    def run(self, job: Job) -> Started:
        """Run the job to its end; the runs of a sweep one after the other.

        A recipe after another job is read again by its command: it may start from weights that were
        not there when it was configured.
        """
        self.check(job)
        with nullcontext() if self.is_rank else recorded(job):
            return self._run(job)

    def _run(self, job: Job) -> Started:
        variables = job_environment(job, self.env_vars)
        if job.recipe is not None and not job.variants and job.after is None:
            import fiddle as fdl

            with _environment(variables):
                folder: Path = fdl.build(job.recipe)()
            return Started(folder)
        for more in job.variants or [()]:
            words = [sys.executable, "-m", COMMAND_MODULE, *job.command, *more]
            ended = subprocess.run(words, env={**os.environ, **variables}, check=False)
            if ended.returncode:
                raise JobFailedError(
                    f"The job '{job.name}' ended with exit code {ended.returncode}; its output "
                    "says why."
                )
        return Started()

    def withdraw(self, started: Started) -> None:
        """Do nothing: the job has ended."""


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
