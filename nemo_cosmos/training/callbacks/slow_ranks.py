"""The slowest rank, by name: one slow machine makes all others wait."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from megatron.core.utils import get_model_config
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.platform.device import Mark, mark, seconds_between
from nemo_cosmos.platform.ranks import machine_name

logger = logging.getLogger(__name__)


class SlowRanks(pl.Callback, IOMixin):
    """Compare the ranks' own times of a step every so many steps, and name the slowest.

    A rank's own time goes from the start of its step, with the reading of the batch, to where
    copies of the model begin to wait for each other's gradients. Ranks that share a model
    (tensor, context, pipeline parallel) wait for each other inside of it and are slow together.

    Logged: ``slowest_rank``, ``slowest_rank_time_s``, ``median_rank_time_s``.

    Hooks:

    - ``on_train_start``: exchange the machines' names; take the time before gradients are reduced.
    - ``on_train_batch_start``, ``on_train_batch_end``: take the time; compare when it is due.
    - ``on_train_end``, ``on_exception``: undo what ``on_train_start`` did.

    Args:
        every_n_steps: steps between two comparisons.
        factor: a rank that takes so many times the median is named in the log.
    """

    def __init__(self, every_n_steps: int = 100, factor: float = 1.2) -> None:
        self.every_n_steps, self.factor = every_n_steps, factor
        self._hosts: list[Any] = []
        self._begun: Mark | None = None
        self._spans: list[tuple[Mark, Mark]] = []
        self._undo: Callable[[], None] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepare, where there are several ranks."""
        self._spans, self._begun = [], None
        if trainer.world_size == 1:
            return
        self._hosts = [None] * trainer.world_size
        dist.all_gather_object(self._hosts, machine_name())
        config = get_model_config(trainer.strategy.megatron_parallel[0])
        reduce = config.finalize_model_grads_func
        if reduce is None:
            return

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._begun is not None:
                self._spans.append((self._begun, mark()))
                self._begun = None
            return reduce(*args, **kwargs)

        config.finalize_model_grads_func = timed
        self._undo = lambda: setattr(config, "finalize_model_grads_func", reduce)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        """Take the time."""
        if self._undo is not None:
            self._begun = mark()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Compare, when it is due; the ranks count alike."""
        if trainer.world_size == 1 or trainer.global_step % self.every_n_steps:
            return
        own_s = [seconds_between(*span) for span in self._spans]
        self._spans.clear()
        mean_s = statistics.fmean(own_s) if own_s else 0.0
        times = torch.zeros(trainer.world_size, device=trainer.strategy.root_device)
        times[trainer.global_rank] = mean_s
        dist.all_reduce(times)
        self._report(trainer, pl_module, times.tolist())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Undo."""
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Undo."""
        self._stop()

    def _report(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, times_s: list[float]
    ) -> None:
        slowest = max(range(len(times_s)), key=times_s.__getitem__)
        median_s = statistics.median_low(times_s)
        for name, value in {
            "slowest_rank": float(slowest),
            "slowest_rank_time_s": times_s[slowest],
            "median_rank_time_s": median_s,
        }.items():
            pl_module.log(name, value, batch_size=1)
        if trainer.is_global_zero and times_s[slowest] > self.factor * median_s:
            logger.warning(
                "Rank %d on '%s' is slow: %.3g s a step before the ranks wait for each other, "
                "where the median is %.3g s (the mean of %d steps up to step %d).",
                slowest,
                self._hosts[slowest],
                times_s[slowest],
                median_s,
                self.every_n_steps,
                trainer.global_step,
            )

    def _stop(self) -> None:
        if self._undo is not None:
            self._undo()
        self._undo = None
