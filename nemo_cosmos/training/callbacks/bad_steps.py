"""Losses that are NaN, infinite or spikes, noticed on all ranks alike."""

from __future__ import annotations

import math
from collections import deque

import lightning.pytorch as pl
import torch
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.platform import by_device
from nemo_cosmos.training.callbacks.signals import STEPS_BETWEEN_ON_GPU
from nemo_cosmos.training.resilience.skipped import BadStep

LOSS = "reduced_train_loss"


class BadSteps(pl.Callback, IOMixin):
    """Raise :class:`BadStep` for a step whose loss is not finite, or far above those before it.

    A loss is read on the CPU after every step and on GPUs after every fourth, when the ranks agree
    about signals, too: between these no rank waits for another or for its GPU. Before a checkpoint
    is written all steps are looked at, so that none holds a bad one. Gradients that are not finite
    are noticed by the optimiser's step, which reads their norm.

    Hooks:

    - ``on_train_start``: forget the losses of an earlier part of the run.
    - ``on_train_batch_end``: keep the loss; look at those that were kept.

    Args:
        spike_factor: a loss so many times the largest of the window is a spike; 0 for none.
        spike_window: steps to compare with.
    """

    def __init__(self, spike_factor: float = 0.0, spike_window: int = 200) -> None:
        self.spike_factor = spike_factor
        self.spike_window = spike_window
        self._kept: list[tuple[int, torch.Tensor]] = []
        self._window: deque[float] = deque(maxlen=spike_window)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start with an empty window."""
        self._kept.clear()
        self._window.clear()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Keep the step's loss, and look at what was kept when it is time."""
        loss = trainer.callback_metrics.get(LOSS)
        if loss is not None:
            self._kept.append((trainer.global_step, loss.detach().clone()))
        if trainer.global_step % by_device(1, STEPS_BETWEEN_ON_GPU) == 0:
            self.look(trainer)

    def look(self, trainer: pl.Trainer) -> None:
        """Look at the losses that were kept; every rank calls this at the same step.

        Raises:
            BadStep: names the first step whose loss is bad.
        """
        if not self._kept:
            return
        steps = [step for step, _ in self._kept]
        losses = torch.stack([loss.float().reshape(()) for _, loss in self._kept])
        self._kept.clear()
        # Only the last stage of a pipeline has the loss, the others a zero; NaN has no maximum.
        shared = torch.nan_to_num(losses, nan=math.inf, neginf=math.inf)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
        for step, loss in zip(steps, shared.tolist(), strict=True):
            if not math.isfinite(loss):
                raise BadStep("the loss is NaN or infinite", step)
            largest = max(self._window, default=0.0)
            is_full = len(self._window) == self.spike_window
            if self.spike_factor and is_full and loss > self.spike_factor * largest:
                raise BadStep(
                    f"the loss of {loss:.4g} is more than {self.spike_factor:g} times the largest "
                    f"of the {self.spike_window} steps before, {largest:.4g}",
                    step,
                )
            self._window.append(loss)
