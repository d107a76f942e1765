"""A job, which says what runs and what it needs, and the protocol of launchers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from nemo_cosmos.errors import ConfigError, counted

if TYPE_CHECKING:
    import nemo_run as run

#: The module that runs a command, ``python -m nemo_cosmos curate ...``.
COMMAND_MODULE = "nemo_cosmos"
#: Commands that go on where they were stopped. 'evaluate' does so with --out, where its scores are.
_RESUMING = ("pretrain", "finetune", "curate", "transcode", "tokenize")


@dataclass(frozen=True)
class Resources:
    """The machines of a job.

    Attributes:
        num_nodes: machines.
        devices_per_node: processes on each machine; each has a GPU of its own where there are GPUs.

    Raises:
        ConfigError: a number below 1.
    """

    num_nodes: int = 1
    devices_per_node: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.num_nodes, self.devices_per_node) < 1:
            raise ConfigError(
                f"A job of {counted(self.num_nodes, 'machine')} with "
                f"{counted(self.devices_per_node, 'device')} each cannot run; both numbers must "
                "be 1 or more."
            )

    @property
    def num_processes(self) -> int:
        """Processes on all machines."""
        return self.num_nodes * self.devices_per_node


@dataclass(frozen=True)
class Job:
    """A recipe or a command, with what it needs.

    Attributes:
        name: its name in logs and queues.
        recipe: a configured recipe; None where the job is a command alone.
        command: the words after ``nemo-cosmos``. Beside a recipe, those that run the same recipe in
            another process; empty where only Python knows how the recipe was changed.
        resources: its machines.
        mounts: ``HOST_PATH:CONTAINER_PATH`` of folders that a container sees.
        env: environment variables that are set for it.
        retries: how often it starts again after a failure, where a queue can start it again.
        after: the job that must have ended well before this one starts: its number in the queue, or
            its name where it has run here.
        variants: of a sweep, the words that each run adds to the command; empty for a single run.

    Raises:
        ConfigError: neither a recipe nor a command, variants without a command, or retries below 0.
    """

    name: str
    recipe: run.Partial | None = None
    command: Sequence[str] = ()
    resources: Resources = Resources()
    mounts: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0
    after: str | None = None
    variants: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        """Check that there is something to run."""
        if self.recipe is None and not self.command:
            raise ConfigError(f"The job '{self.name}' must have a recipe or a command.")
        if self.variants and not self.command:
            raise ConfigError(
                f"The job '{self.name}' has {counted(len(self.variants), 'variant')} and no "
                "command that their words could be added to. Give it one."
            )
        if self.retries < 0:
            raise ConfigError(
                f"The job '{self.name}' has {self.retries} retries; they must be 0 or more."
            )

    @property
    def resumes(self) -> bool:
        """Whether the same command goes on where it was stopped, instead of beginning again."""
        if not self.command:
            return self.recipe is not None
        keeps_scores = any(word.partition("=")[0] == "--out" for word in self.command)
        return self.command[0] in _RESUMING or (self.command[0] == "evaluate" and keeps_scores)

    def retries_at(self, site: int) -> int:
        """Return how often it starts again after a failure.

        Args:
            site: how often the site starts jobs again.

        Returns:
            the larger of its own number and the site's; 0 where failing is an answer, as of a check
            of a cluster, which would be the same each time.
        """
        words = [word.partition("=")[0] for word in self.command]
        if words[:2] == ["launch", "check"] or (words[:1] == ["evaluate"] and "--repeat" in words):
            return self.retries
        return max(self.retries, site)

    @classmethod
    def for_recipe(cls, recipe: run.Partial, command: Sequence[str] = ()) -> Self:
        """Make the job of a configured recipe, on the devices that its trainer names.

        Args:
            recipe: the recipe.
            command: the words after ``nemo-cosmos`` that run the same recipe.
        """
        trainer = recipe.trainer
        resources = Resources(trainer.num_nodes, trainer.devices)
        return cls(recipe.log.name, recipe, tuple(command), resources)

    @classmethod
    def for_command(cls, command: Sequence[str], resources: Resources | None = None) -> Self:
        """Make the job of a command line, such as ``["curate", "raw", "shards"]``."""
        return cls(command[0], command=tuple(command), resources=resources or Resources())


@dataclass(frozen=True)
class Started:
    """What became of a job that a launcher took.

    Attributes:
        folder: the run's folder where a recipe ran in this process.
        number: the job's number where it waits in a queue.
        log: where its output goes where it waits in a queue.
    """

    folder: Path | None = None
    number: str | None = None
    log: Path | None = None


@runtime_checkable
class ChainLauncher(Protocol):
    """A launcher whose queue takes jobs that follow each other as one job."""

    def chain_script(self, jobs: Sequence[Job]) -> str:
        """Return one script or manifest of all jobs.

        Raises:
            ConfigError: the errors of :meth:`Launcher.script`.
        """
        ...

    def run_chain(self, jobs: Sequence[Job]) -> Started:
        """Submit all jobs as one.

        Raises:
            ConfigError: the errors of :meth:`Launcher.run`.
        """
        ...


class Launcher(Protocol):
    """A place where jobs run."""

    def check(self, job: Job) -> None:
        """Refuse a job that cannot run here, before anything starts.

        Raises:
            ConfigError: what is missing or too much, and how to change it.
        """
        ...

    def script(self, job: Job) -> str:
        """Return a shell script that runs the job here, which a person can read and start.

        Raises:
            ConfigError: the errors of :meth:`check`, or a recipe that no command runs.
        """
        ...

    def run(self, job: Job) -> Started:
        """Run a job; on this machine, until it ends.

        Raises:
            ConfigError: the errors of :meth:`check`.
            JobFailedError: it ended with an error.
        """
        ...

    def withdraw(self, started: Started) -> None:
        """Take back a job that has not ended, because one that belongs to it was refused."""
        ...


def command_of(job: Job) -> Sequence[str]:
    """Return the words that run a job in another process.

    Raises:
        ConfigError: it is a recipe that was changed in Python.
    """
    if not job.command:
        raise ConfigError(
            f"The job '{job.name}' is a recipe without the command that runs it, so no script can. "
            "Give Job.for_recipe the words after 'nemo-cosmos' as well."
        )
    return job.command
