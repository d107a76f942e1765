"""A parallel layout: how many ways a step is split, and what is legal."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.parallel.divisibility import Sharing
from nemo_cosmos.planning.workload import Workload

RECOMPUTE_MODES = ("none", "selective", "full")


@dataclass(frozen=True)
class Layout:
    """How a step is spread over GPUs.

    Attributes:
        tp: tensor-parallel size; above 1 always with sequence parallelism.
        cp: context-parallel size.
        pp: pipeline stages.
        dp: data-parallel size.
        fsdp: whether weights, gradients and optimiser are sharded over data-parallel processes
            (Megatron-FSDP) instead of the optimiser alone.
        recompute: ``"none"``, ``"selective"`` (attention) or ``"full"`` (whole layers).
        num_micro_batches: forward passes of one step.
    """

    tp: int
    cp: int
    pp: int
    dp: int
    fsdp: bool
    recompute: str
    num_micro_batches: int

    @property
    def num_gpus(self) -> int:
        """GPUs in all."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def shards(self) -> int:
        """Processes that share the optimiser's state, or all state under FSDP."""
        return self.dp * self.cp

    @property
    def bubble(self) -> float:
        """Share of a step that a pipeline stage idles, 1F1B: (p - 1) / (m + p - 1)."""
        return (self.pp - 1) / (self.num_micro_batches + self.pp - 1)

    def overrides(self, per_node: int) -> dict[str, Any]:
        """The layout as keys of a recipe.

        Args:
            per_node: GPUs of a machine.
        """
        full = self.recompute == "full"
        devices = max(size for size in divisors(self.num_gpus) if size <= per_node)
        keys: dict[str, Any] = {
            "trainer.num_nodes": self.num_gpus // devices,
            "trainer.devices": devices,
            "trainer.strategy.tensor_model_parallel_size": self.tp,
            "trainer.strategy.context_parallel_size": self.cp,
            "trainer.strategy.pipeline_model_parallel_size": self.pp,
            "trainer.strategy.sequence_parallel": self.tp > 1,
            "model.config.recompute_granularity": None
            if self.recompute == "none"
            else self.recompute,
            "model.config.recompute_method": "uniform" if full else None,
            "model.config.recompute_num_layers": 1 if full else None,
        }
        if self.fsdp:
            keys["trainer.strategy.fsdp"] = "megatron"
        return keys

    def describe(self) -> str:
        """One short line."""
        data = "FSDP" if self.fsdp else "DP"
        recompute = "" if self.recompute == "none" else f", {self.recompute} recomputation"
        return f"TP{self.tp} x CP{self.cp} x PP{self.pp} x {data}{self.dp}{recompute}"


def legal_layouts(
    workload: Workload, num_gpus: int, per_node: int, *, fsdp: bool = False
) -> Iterator[Layout]:
    """Every layout of ``num_gpus`` that Megatron-Core and the network accept.

    Args:
        workload: what is trained.
        num_gpus: in all.
        per_node: GPUs of a machine; tensor parallelism stays within one.
        fsdp: also those that shard weights by FSDP.
    """
    for tp in divisors(num_gpus):
        if tp > per_node:
            continue
        for cp in divisors(num_gpus // tp):
            for pp in divisors(num_gpus // (tp * cp)):
                if not is_trainable(workload, tp, cp, pp):
                    continue
                dp = num_gpus // (tp * cp * pp)
                if workload.global_batch_size % (workload.micro_batch_size * dp):
                    continue
                num = workload.global_batch_size // (workload.micro_batch_size * dp)
                for recompute in RECOMPUTE_MODES:
                    yield Layout(tp, cp, pp, dp, False, recompute, num)
                    # What training.fsdp refuses: pipeline stages, and float16.
                    half = workload.precision.name.startswith("16")
                    if fsdp and pp == 1 and dp * cp > 1 and not half:
                        yield Layout(tp, cp, pp, dp, True, recompute, num)


def is_trainable(workload: Workload, tp: int, cp: int, pp: int) -> bool:
    """Whether training accepts a layout, by its own checks.

    Args:
        workload: what is trained.
        tp: tensor-parallel size; above 1 with sequence parallelism.
        cp: context-parallel size.
        pp: pipeline stages.
    """
    config = copy.copy(workload.config)
    config.tensor_model_parallel_size, config.sequence_parallel = tp, tp > 1
    config.context_parallel_size, config.pipeline_model_parallel_size = cp, pp
    try:
        config.check_layout()
        workload.check_sharing(Sharing.of(config, workload.noise_levels > 1))
    except ConfigError:
        return False
    return True


def divisors(number: int) -> list[int]:
    """Divisors from small to large."""
    return [n for n in range(1, number + 1) if number % n == 0]
