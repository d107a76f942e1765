"""A job, which says what runs and what it needs, and the protocol of launchers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from nemo_cosmos.errors import ConfigError, counted

if TYPE_CHECKING:
    import nemo_run as run

#: The module that runs a command, ``python -m nemo_cosmos curate ...``.
COMMAND_MODULE = "nemo_cosmos"


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
        recipe: a configured recipe; None where the job is a command.
        command: the words after ``nemo-cosmos``; empty where the job is a recipe.
        resources: its machines.
        mounts: ``HOST_PATH:CONTAINER_PATH`` of folders that a container sees.
        env: environment variables that are set for it.

    Raises:
        ConfigError: neither a recipe nor a command, or both.
    """

    name: str
    recipe: run.Partial | None = None
    command: Sequence[str] = ()
    resources: Resources = Resources()
    mounts: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that there is one thing to run."""
        if (self.recipe is None) == (not self.command):
            raise ConfigError(
                f"The job '{self.name}' must have either a recipe or a command; it has "
                f"{'neither' if self.recipe is None else 'both'}."
            )

    @classmethod
    def for_recipe(cls, recipe: run.Partial) -> Self:
        """Make the job of a configured recipe, on the devices that its trainer names."""
        trainer = recipe.trainer
        return cls(recipe.log.name, recipe, resources=Resources(trainer.num_nodes, trainer.devices))

    @classmethod
    def for_command(cls, command: Sequence[str], resources: Resources | None = None) -> Self:
        """Make the job of a command line, such as ``["curate", "raw", "shards"]``."""
        return cls(command[0], command=tuple(command), resources=resources or Resources())


class Launcher(Protocol):
    """A place where jobs run."""

    def check(self, job: Job) -> None:
        """Refuse a job that cannot run here, before anything starts.

        Raises:
            ConfigError: what is missing or too much, and how to change it.
        """
        ...

    def run(self, job: Job) -> Path | None:
        """Run a job; on this machine, until it ends.

        Returns:
            the run's folder where a recipe ran in this process; None elsewhere.

        Raises:
            ConfigError: the errors of :meth:`check`.
            JobFailedError: it ended with an error.
        """
        ...
