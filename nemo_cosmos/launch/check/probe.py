"""A callback that measures while a run trains: its process group is the one there is."""

from __future__ import annotations

import statistics
import time
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.launch.check.measure import (
    exchange_latency_us,
    exchange_speed,
    ranks_of_machines,
)
from nemo_cosmos.launch.check.verdicts import Findings, RankFacts
from nemo_cosmos.platform.accelerator.self_check import check_kernels


class Probe(pl.Callback, IOMixin):
    """Exchange what ranks found, measure how fast they exchange, and take the time of steps.

    Hooks:

    - ``setup``: the ranks have met; nothing is built yet.
    - ``on_train_batch_start``, ``on_train_batch_end``: take the time of each step.
    - ``on_train_end``: exchange the times.

    Args:
        own: what this rank found before it met the others.

    Attributes:
        found: what all ranks found together.
    """

    def __init__(self, own: RankFacts) -> None:
        self.own = own
        self.found = Findings(ranks=[own])
        self._ended_s = 0.0
        self._reading_s: list[float] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Exchange facts and measure the network."""
        found = self.found
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, self.own)
        found.ranks = everyone
        # Those of this machine alone have been computed before; these two are the exchanges.
        wrong = "; ".join(check.text for check in check_kernels()[-2:] if not check.works)
        wrong_of: list[Any] = [""] * len(everyone)
        dist.all_gather_object(wrong_of, wrong)
        found.wrong_exchange = [
            f"{rank.host} (rank {rank.rank}): {text}"
            for rank, text in zip(everyone, wrong_of, strict=True)
            if text
        ]
        machines = ranks_of_machines([rank.host for rank in everyone])
        # Every rank takes part in making every group.
        groups = [dist.new_group(ranks) for ranks in machines]
        own = next(place for place, ranks in enumerate(machines) if dist.get_rank() in ranks)
        speeds: list[Any] = [None] * len(everyone)
        within = exchange_speed(groups[own]) if len(machines[own]) > 1 else None
        dist.all_gather_object(speeds, within)
        known = [speed for speed in speeds if speed is not None]
        found.within_gb_s = min(known) if known else None
        if len(machines) > 1:
            found.across_gb_s = exchange_speed()
        found.latency_us = exchange_latency_us()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to take the time."""
        self._ended_s = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note how long the batch was waited for."""
        self._reading_s.append(time.perf_counter() - self._ended_s)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the time of the step and its loss."""
        now_s = time.perf_counter()
        self.found.steps_s.append(now_s - self._ended_s)
        self._ended_s = now_s
        loss = trainer.callback_metrics.get("reduced_train_loss")
        if loss is not None:
            self.found.losses.append(float(loss))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exchange the times of all ranks."""
        own_s = statistics.median(self._reading_s) if self._reading_s else 0.0
        times: list[Any] = [own_s]
        if dist.is_initialized() and dist.get_world_size() > 1:
            times = [None] * dist.get_world_size()
            dist.all_gather_object(times, own_s)
        self.found.reading_s = times
