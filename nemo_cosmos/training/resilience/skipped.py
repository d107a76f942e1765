"""The batches that a run leaves out because they spoilt it: one file, which a person reads.

A line of ``skipped_batches.jsonl`` is a rollback's batch: the step that went wrong, why, the
checkpoint that the run returned to, and the keys of the samples. The run reads the file when it
starts, so that a batch stays out however often the run is started again; deleting a line, before
the run has passed it, lets the batch in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from nemo_cosmos.data.order.skips import BatchId
from nemo_cosmos.errors import ConfigError, NumericsError
from nemo_cosmos.options import build_from_file
from nemo_cosmos.storage import atomic_path

SKIPPED_FILE = "skipped_batches.jsonl"


class BadStep(NumericsError):  # noqa: N818  what happened; whether it is an error, the run decides
    """A step that spoilt the run, on all ranks alike.

    Attributes:
        reason: what is wrong, such as "the loss is nan".
        step: the optimiser step, counted from 1; None for the one that is being made.
    """

    def __init__(self, reason: str, step: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.step = reason, step


@runtime_checkable
class SkipsBatches(Protocol):
    """A data module that can leave batches out."""

    def skip(self, batches: Iterable[BatchId]) -> None:
        """Leave global batches out, from the next ``train_dataloader`` on."""
        ...

    def batch_of_step(self, step: int) -> BatchId | None:
        """The global batch of an optimiser step; None for one before the run was resumed."""
        ...

    def keys_of(self, batch: BatchId) -> list[str]:
        """The keys of a batch's samples."""
        ...


@dataclass(frozen=True)
class Skipped:
    """A line of the file.

    Attributes:
        rollback: the number of the rollback, from 1; one may leave several batches out.
        step: the step that went wrong.
        reason: what was wrong.
        back_to_step: the step of the checkpoint that the run returned to.
        begin: samples, or packs, before the batch in the order of the run.
        size: its samples, or packs.
        keys: the keys of its samples.
        time: when, in UTC.
    """

    rollback: int
    step: int
    reason: str
    back_to_step: int
    begin: int
    size: int
    keys: tuple[str, ...]
    time: str

    @property
    def batch(self) -> BatchId:
        """The batch."""
        return BatchId(self.begin, self.size)


def read_skipped(run: Path) -> list[Skipped]:
    """The batches that a run leaves out, in the order in which they were recorded.

    Args:
        run: the run's folder.

    Raises:
        ConfigError: a line is none of this file.
    """
    path = run / SKIPPED_FILE
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(build_from_file(Skipped, json.loads(line), f"line {number}"))
        except (ValueError, ConfigError) as error:
            raise ConfigError(
                f"Line {number} of '{path}' is not a batch that a run leaves out: {error}. Mend or "
                "delete that line."
            ) from error
    return found


def add_skipped(run: Path, lines: Sequence[Skipped]) -> None:
    """Add batches to the file, all of them or none."""
    path = run / SKIPPED_FILE
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines)
    with atomic_path(path) as temporary:
        temporary.write_text(before + text, encoding="utf-8")


def now() -> str:
    """The time as the file gives it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
