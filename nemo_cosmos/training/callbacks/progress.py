"""A progress bar with rate and time left, which also reads well when piped to a file."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning.pytorch as pl
from nemo.lightning.io.mixin import IOMixin
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

SHOWN = {"reduced_train_loss": "loss", "val_loss": "val"}
PIPED_INTERVAL_S = 15.0


class Progress(pl.Callback, IOMixin):
    """Show steps, rate, time left and the loss.

    On a terminal a bar; elsewhere a line every 15 seconds, so that logs stay readable.

    Hooks:

    - ``on_train_start``: open the bar at the step that training resumes from.
    - ``on_train_batch_end``: advance.
    - ``on_train_end``, ``on_exception``: close it.

    Args:
        title: what stands before the bar.
    """

    def __init__(self, title: str = "train") -> None:
        self.title = title
        self._bar: RichProgress | None = None
        self._task: Any = None
        self._started_s = self._printed_s = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar on the first rank."""
        if not trainer.is_global_zero:
            return
        self._started_s = self._printed_s = time.monotonic()
        self._first_step = trainer.global_step
        console = Console(file=sys.stderr)
        if not console.is_terminal:
            return
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
        )
        self._task = self._bar.add_task(
            self.title, total=trainer.max_steps, completed=trainer.global_step, rate="", metrics=""
        )
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Advance by one step."""
        if not trainer.is_global_zero:
            return
        step, now_s = trainer.global_step, time.monotonic()
        rate = (step - self._first_step) / max(now_s - self._started_s, 1e-9)
        metrics = " ".join(
            f"{short} {float(trainer.callback_metrics[name]):.4f}"
            for name, short in SHOWN.items()
            if name in trainer.callback_metrics
        )
        if self._bar is not None:
            self._bar.update(
                self._task, completed=step, rate=f"{rate:.2f} steps/s", metrics=metrics
            )
        elif now_s - self._printed_s >= PIPED_INTERVAL_S or step == trainer.max_steps:
            self._printed_s = now_s
            left_s = max(trainer.max_steps - step, 0) / max(rate, 1e-9)
            line = f"{self.title}: step {step}/{trainer.max_steps}, {rate:.2f} steps/s, "
            print(f"{line}{left_s:.0f} s left, {metrics}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close the bar, so that the message stands below it."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None
