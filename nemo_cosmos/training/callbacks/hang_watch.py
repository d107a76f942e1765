"""A run that makes no step for too long ends, with the stacks of all its ranks in the log."""

from __future__ import annotations

import lightning.pytorch as pl
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.training.resilience.watchdog import Watchdog
from nemo_cosmos.training.run_folder import current_run

MINUTE_S = 60.0


class HangWatch(pl.Callback, IOMixin):
    """Give a :class:`Watchdog` its beats.

    A step has one limit. What lies between two steps has another, larger one: saves, validation,
    sampling; so has the first step, in which kernels are compiled and measured.

    Hooks:

    - ``on_train_start``: begin to watch.
    - ``on_train_batch_start``, ``on_train_batch_end``: a beat.
    - ``on_train_end``: a beat, as the last save follows.
    - ``on_exception``, ``teardown``: watch no longer.

    Args:
        minutes: of one step; 0 for no limit.
        minutes_between: of what lies between two steps, and of the first step; 0 for no limit.
    """

    def __init__(self, minutes: float = 30.0, minutes_between: float = 120.0) -> None:
        self.minutes, self.minutes_between = minutes, minutes_between
        self._watchdog: Watchdog | None = None
        self._is_first = True

    def __deepcopy__(self, memo: object) -> HangWatch:
        """Return a new one: a thread cannot be copied."""
        return HangWatch(self.minutes, self.minutes_between)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to watch; the first step has not begun."""
        self._is_first = True
        self._watchdog = Watchdog(current_run(), trainer.global_rank)
        self._between(trainer)
        self._watchdog.start()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        """A step begins."""
        minutes = self.minutes_between if self._is_first else self.minutes
        self._beat(f"step {trainer.global_step + 1}", minutes)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """A step has ended."""
        self._is_first = False
        self._between(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training has ended; the last save follows."""
        self._between(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Watch no longer."""
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Watch no longer."""
        self._stop()

    def pause(self) -> None:
        """Watch no longer until the next step: the session's caller does something else."""
        self._beat("nothing", 0.0)

    def resume(self, trainer: pl.Trainer) -> None:
        """Watch again."""
        self._between(trainer)

    def _between(self, trainer: pl.Trainer) -> None:
        self._beat(f"what follows step {trainer.global_step}", self.minutes_between)

    def _beat(self, what: str, minutes: float) -> None:
        if self._watchdog is not None:
            self._watchdog.beat(what, minutes * MINUTE_S)

    def _stop(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        self._watchdog = None
