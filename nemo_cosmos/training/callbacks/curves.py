"""Loss curves as JSON lines: one object a logged step, readable while training runs."""

from __future__ import annotations

import json
import math
import time
from typing import Any, TextIO

import lightning.pytorch as pl
import torch
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.storage.run_curves import METRICS_FILE, read_curves
from nemo_cosmos.training.run_folder import current_run

# NeMo's names and plainer ones.
RENAMED = {"reduced_train_loss": "loss"}
LEFT_OUT = frozenset({"step", "global_step"})


class LossCurves(pl.Callback, IOMixin):
    """Append every logged metric to ``<run>/metrics.jsonl``.

    A line is ``{"step": 10, "time_s": 12.3, "loss": 0.51, "grad_norm": ...}``; ``time_s`` counts
    training time over all resumes. TensorBoard gets the same numbers from Lightning's logger.

    Hooks:

    - ``on_train_start``: open the file; lines after the step that training resumes from are cut, so
      that a killed run leaves no step twice.
    - ``on_train_batch_end``: one line every ``log_every_n_steps``.
    - ``on_validation_end``: one line with the validation metrics.
    - ``on_train_end``, ``on_exception``: close the file.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._started_s = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the file for this run's folder; only the first rank writes."""
        if not trainer.is_global_zero:
            return
        folder = current_run()
        earlier = [line for line in read_curves(folder) if line["step"] <= trainer.global_step]
        passed_s = earlier[-1]["time_s"] if earlier else 0.0
        self._started_s = time.monotonic() - passed_s
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / METRICS_FILE).open("w", encoding="utf-8")
        self._file.writelines(json.dumps(line) + "\n" for line in earlier)
        self._file.flush()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Write a line when Lightning logs."""
        step = trainer.global_step
        if step % trainer.log_every_n_steps == 0 or step in (1, trainer.max_steps):
            self._write(trainer, prefix_left_out="val")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the validation metrics."""
        if not trainer.sanity_checking:
            self._write(trainer, only_prefix="val")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the file."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the file."""
        self._close()

    def _write(
        self,
        trainer: pl.Trainer,
        prefix_left_out: str | None = None,
        only_prefix: str | None = None,
    ) -> None:
        if self._file is None:
            return
        metrics = {
            RENAMED.get(name, name): number(value)
            for name, value in trainer.callback_metrics.items()
            if name not in LEFT_OUT
            and (only_prefix is None or name.startswith(only_prefix))
            and (prefix_left_out is None or not name.startswith(prefix_left_out))
        }
        if not metrics:
            return
        passed_s = round(time.monotonic() - self._started_s, 3)
        line = {"step": trainer.global_step, "time_s": passed_s, **metrics}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def number(value: Any) -> float | None:
    """A JSON number with six digits; None where the value is NaN or infinite, which JSON lacks."""
    plain = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
    return float(f"{plain:.6g}") if math.isfinite(plain) else None
