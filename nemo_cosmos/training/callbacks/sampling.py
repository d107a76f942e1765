"""What samples while a model trains: every so many steps, and never at the cost of the run."""

from __future__ import annotations

import logging
from abc import abstractmethod

import lightning.pytorch as pl
import torch

from nemo_cosmos.errors import NemoCosmosError

logger = logging.getLogger(__name__)


class SamplingCallback(pl.Callback):
    """Sample at multiples of some steps; what cannot be sampled is a warning, and turns it off.

    Hooks:

    - ``on_fit_start``: turn off between virtual pipeline stages, where a network cannot sample.
    - ``on_train_batch_end``: :meth:`sample`.

    Args:
        every_n_steps: how often; 0 for never.
    """

    samples_last_step = False
    """Whether the last step is sampled in any case."""
    without = "Training does not sample"
    """What the warning says before the reason."""

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._is_on = every_n_steps > 0

    @abstractmethod
    def sample(self, trainer: pl.Trainer, model: pl.LightningModule) -> object:
        """Sample; every rank calls it."""

    @abstractmethod
    def keep(self, trainer: pl.Trainer, model: pl.LightningModule, sampled: object) -> None:
        """Do something with what :meth:`sample` returned; errors of it end the run."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Turn off in a pipeline with virtual stages."""
        stages = getattr(trainer.strategy, "virtual_pipeline_model_parallel_size", None)
        if stages is not None and self._is_on:
            self.turn_off(f"a pipeline of {stages} virtual stages cannot sample")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Sample when it is time."""
        step = trainer.global_step
        is_last = self.samples_last_step and step == trainer.max_steps
        if not self._is_on or (step % self.every_n_steps and not is_last):
            return
        try:
            sampled = self.sample(trainer, pl_module)
        except (NemoCosmosError, OSError, torch.OutOfMemoryError) as error:
            torch.cuda.empty_cache()
            self.turn_off(str(error))
            return
        self.keep(trainer, pl_module, sampled)

    def turn_off(self, reason: str) -> None:
        """Sample no more, and say why."""
        self._is_on = False
        logger.warning("%s: %s", self.without, reason)
