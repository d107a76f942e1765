"""What a job does now, in words that all launchers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from nemo_cosmos.launch.jobs.record import JobRecord


class Word(StrEnum):
    """The states of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # the queue does not know it any more, or does not answer

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes of the job."""
        return self in (Word.DONE, Word.FAILED, Word.CANCELLED)


@dataclass(frozen=True)
class JobState:
    """The state of a job or of a run of its sweep.

    Attributes:
        word: the state.
        why: why it waits, or how it ended, in the queue's words and in ours.
        nodes: the machines that it runs on.
    """

    word: Word
    why: str = ""
    nodes: str = ""


class Watcher(Protocol):
    """What a launcher knows of jobs that it has started."""

    def states(self, records: Sequence[JobRecord]) -> Mapping[str, JobState]:
        """Return the state of each task of each job, by the task's name.

        Args:
            records: jobs of this launcher.

        Raises:
            ServiceError: the queue does not answer.
        """
        ...

    def log(
        self, record: JobRecord, task: str | None, rank: int | None, follow: bool
    ) -> Iterator[str]:
        """Yield the lines of a job's output.

        Args:
            record: the job.
            task: a run of its sweep; None for all.
            rank: the process whose lines are wanted; None for all.
            follow: whether to go on until the job has ended.

        Raises:
            ConfigError: there is no such rank, or no output.
        """
        ...

    def tail(self, record: JobRecord, task: str) -> Sequence[str]:
        """Return the last lines of a task's output; none where there are none yet.

        Args:
            record: the job.
            task: its only task, or a run of its sweep.
        """
        ...

    def cancel(self, record: JobRecord, task: str | None) -> None:
        """End a job, or one run of its sweep.

        Raises:
            ConfigError: the queue refuses it.
        """
        ...
