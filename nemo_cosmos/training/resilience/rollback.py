"""Back to the newest checkpoint after a bad step, and on without the batch that caused it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl

from nemo_cosmos.data.order.skips import BatchId
from nemo_cosmos.errors import counted
from nemo_cosmos.platform import on_first_process
from nemo_cosmos.training.resilience.skipped import (
    SKIPPED_FILE,
    BadStep,
    Skipped,
    SkipsBatches,
    add_skipped,
    now,
    read_skipped,
)
from nemo_cosmos.training.run_folder import list_checkpoints

logger = logging.getLogger(__name__)


class Return(NamedTuple):
    """Where a run returns to.

    Attributes:
        checkpoint: the path of the checkpoint; empty where the run cannot return.
        step: its step.
        obstacle: why the run cannot return, as a sentence.
    """

    checkpoint: str
    step: int
    obstacle: str = ""


class Rollbacks:
    """The rollbacks of one run, those before it was started again included.

    Args:
        folder: the run's folder.
        trainer: its trainer, whose ``resilience`` says how often and with which batches.
        data: its data module; only one of :class:`SkipsBatches` can return.

    Attributes:
        not_before: the first step whose checkpoint has the weights that came from outside the run.
    """

    def __init__(self, folder: Path, trainer: pl.Trainer, data: object) -> None:
        self.folder, self.trainer, self.data = folder, trainer, data
        self.not_before = 0

    def leave_out(self) -> None:
        """Tell the data module which batches the run leaves out."""
        recorded = read_skipped(self.folder)
        if recorded and isinstance(self.data, SkipsBatches):
            self.data.skip(line.batch for line in recorded)

    def decide(self, bad: BadStep, step: int) -> Return:
        """Record a bad step's batch and say where to return to; on all ranks alike.

        Args:
            bad: what was wrong.
            step: the step, counted from 1.
        """
        # A save in the background may be complete but not yet in place.
        finalize = getattr(
            self.trainer.strategy.checkpoint_io, "maybe_finalize_save_checkpoint", None
        )
        if finalize is not None:
            finalize(blocking=True)
        batches = self._batches(step)
        return on_first_process(lambda: self._decide(bad, step, batches))

    def _batches(self, step: int) -> list[BatchId]:
        """The bad batch, the last, and those before it that are left out as well."""
        if not isinstance(self.data, SkipsBatches):
            return []
        first = max(step - self.trainer.resilience.skip_before, 1)
        found = (self.data.batch_of_step(number) for number in range(first, step + 1))
        return [batch for batch in found if batch is not None]

    def _decide(self, bad: BadStep, step: int, batches: list[BatchId]) -> Return:
        most = self.trainer.resilience.max_rollbacks
        if most == 0:
            return Return("", 0)
        if not batches:
            return Return("", 0, "Its data module cannot leave a batch out.")
        saved = [one for one in list_checkpoints(self.folder) if self.not_before <= one[1] < step]
        if not saved:
            return Return("", 0, "There is no checkpoint from before that step to return to.")
        path, back_to = saved[-1]
        recorded = read_skipped(self.folder)
        returns = {line.rollback for line in recorded if line.back_to_step == back_to}
        number = max((line.rollback for line in recorded), default=0) + 1
        if len(returns) >= most:
            times = counted(len(returns), "time")
            return Return(
                "", 0, f"It had returned to '{path.name}' {times} before, so no single batch is it."
            )
        assert isinstance(self.data, SkipsBatches)
        when = now()
        lines = [
            Skipped(
                number,
                step,
                bad.reason,
                back_to,
                *batch,
                keys=tuple(self.data.keys_of(batch)),
                time=when,
            )
            for batch in batches
        ]
        add_skipped(self.folder, lines)
        logger.warning(
            "Step %d is bad: %s. The run returns to '%s' and goes on without %s (%s of %d); "
            "'%s' has the keys.",
            step,
            bad.reason,
            path.name,
            counted(len(batches), "batch", "batches"),
            len(returns) + 1,
            most,
            self.folder / SKIPPED_FILE,
        )
        return Return(str(path), back_to)
