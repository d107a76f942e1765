"""Steps, rate, time left and the loss of a run, on standard error."""

from __future__ import annotations

from contextlib import ExitStack

import lightning.pytorch as pl
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.progress import Update, show_progress

SHOWN = {"reduced_train_loss": "loss", "val_loss": "val"}


class Progress(pl.Callback, IOMixin):
    """Show steps, rate, time left and the loss.

    On a terminal it is a bar; elsewhere a line every 15 seconds, so that logs stay readable.

    Hooks:

    - ``on_train_start``: open the bar at the step that training resumes from.
    - ``on_train_batch_end``: advance.
    - ``on_train_end``, ``on_exception``: close it.

    Args:
        title: the word before the bar.
    """

    def __init__(self, title: str = "train") -> None:
        self.title = title
        self._open = ExitStack()
        self._update: Update | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar on the first rank."""
        if trainer.is_global_zero:
            self._update = self._open.enter_context(show_progress(self.title, "steps"))
            self._update(trainer.global_step, trainer.max_steps)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Advance by one step."""
        if self._update is None:
            return
        metrics = {
            short: trainer.callback_metrics[name]
            for name, short in SHOWN.items()
            if name in trainer.callback_metrics
        }
        self._update(
            trainer.global_step,
            trainer.max_steps,
            # Made when it is printed: to read a number, the host waits for the GPU.
            lambda: " ".join(f"{short} {float(value):.4f}" for short, value in metrics.items()),
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the message is printed below it."""
        self._close()

    def _close(self) -> None:
        self._open.close()
        self._update = None
