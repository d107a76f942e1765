"""A parallel layout: how many ways a step is split, and what is legal."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.models.common.costs import Split, Workload
from nemo_cosmos.platform import divisors

RECOMPUTE_MODES = ("none", "selective", "full")
"""Ways of recomputing that name no number; ``"block"`` recomputes so many layers of each stage."""


@dataclass(frozen=True)
class ParallelLayout:
    """How a step is spread over GPUs.

    Attributes:
        tp: tensor-parallel size; above 1 always with sequence parallelism.
        cp: context-parallel size.
        pp: pipeline stages.
        dp: data-parallel size.
        fsdp: whether weights, gradients and optimiser are split over data-parallel ranks
            (Megatron-FSDP) instead of the optimiser alone.
        recompute: ``"none"``, ``"selective"`` (attention), ``"full"`` (all layers) or ``"block"``
            (the first layers of a stage).
        num_micro_batches: forward passes of one step.
        num_recomputed: layers of a stage that ``"block"`` recomputes.
    """

    tp: int
    cp: int
    pp: int
    dp: int
    fsdp: bool
    recompute: str
    num_micro_batches: int
    num_recomputed: int = 0

    @property
    def num_gpus(self) -> int:
        """All GPUs."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def split(self) -> Split:
        """How a sample is split over ranks."""
        return Split(self.tp, self.cp, self.pp)

    @property
    def state_ranks(self) -> int:
        """Ranks over which the optimiser's state is split, or all state under FSDP."""
        return self.dp * self.cp

    @property
    def bubble(self) -> float:
        """Share of a step that a pipeline stage idles under 1F1B: (p - 1) / (m + p - 1)."""
        return (self.pp - 1) / (self.num_micro_batches + self.pp - 1)

    def recomputed_share(self, num_layers: int) -> float:
        """Share of the layers whose forward pass runs twice.

        Args:
            num_layers: the network's layers.
        """
        if self.recompute == "block":
            return self.num_recomputed / (num_layers // self.pp)
        return 1.0 if self.recompute == "full" else 0.0

    def overrides(self, per_node: int) -> dict[str, object]:
        """Return the layout as keys of a recipe.

        Args:
            per_node: GPUs in a machine.
        """
        method = {"full": "uniform", "block": "block"}.get(self.recompute)
        granularity = {"none": None, "selective": "selective"}.get(self.recompute, "full")
        return {
            **machines(self.num_gpus, per_node),
            "trainer.strategy.tensor_model_parallel_size": self.tp,
            "trainer.strategy.context_parallel_size": self.cp,
            "trainer.strategy.pipeline_model_parallel_size": self.pp,
            "trainer.strategy.sequence_parallel": self.tp > 1,
            "model.config.recompute_granularity": granularity,
            "model.config.recompute_method": method,
            "model.config.recompute_num_layers": (self.num_recomputed or 1) if method else None,
            "trainer.strategy.fsdp": "megatron" if self.fsdp else None,
        }

    def describe(self) -> str:
        """Return one short line."""
        recompute = "" if self.recompute == "none" else f", {self.recompute} recomputation"
        if self.recompute == "block":
            recompute = f", recomputation of {counted(self.num_recomputed, 'layer')}"
        return self.split_words() + recompute

    def split_words(self) -> str:
        """Return the sizes alone."""
        data = "FSDP" if self.fsdp else "DP"
        return f"TP{self.tp} x CP{self.cp} x PP{self.pp} x {data}{self.dp}"


def machines(num_gpus: int, per_node: int) -> dict[str, int]:
    """Return the keys of a recipe that spread GPUs over equal machines, as few as can be.

    Args:
        num_gpus: number of all GPUs.
        per_node: the most GPUs in a machine.
    """
    devices = max(size for size in range(1, per_node + 1) if num_gpus % size == 0)
    return {"trainer.num_nodes": num_gpus // devices, "trainer.devices": devices}


def numbers_of_gpus(numbers: Collection[int], joint: str = " or ") -> str:
    """Return a choice of numbers in words: ``1 GPU``, ``1 or 2 GPUs``.

    Args:
        numbers: the numbers, of which there is at least one.
        joint: what stands between two.
    """
    noun = "GPU" if list(numbers) == [1] else "GPUs"
    return f"{joint.join(map(str, numbers))} {noun}"


def legal_layouts(
    workload: Workload, num_gpus: int, per_node: int, *, fsdp: bool = False
) -> Iterator[ParallelLayout]:
    """Yield every layout of ``num_gpus`` that Megatron-Core and the network accept.

    Args:
        workload: the training step.
        num_gpus: number of all GPUs.
        per_node: GPUs in a machine; tensor parallelism stays within one.
        fsdp: whether to include layouts that split weights by FSDP.
    """
    for tp in divisors(num_gpus):
        if tp > per_node:
            continue
        for cp in divisors(num_gpus // tp):
            if workload.num_tokens % cp:
                continue
            for pp in divisors(num_gpus // (tp * cp)):
                dp = num_gpus // (tp * cp * pp)
                # Numbers first: a million GPUs have thousands of splits, and the checks of
                # training put the sizes that would be legal into words for each.
                if workload.num_layers % pp:
                    continue
                if workload.global_batch_size % (workload.micro_batch_size * dp):
                    continue
                if not is_trainable(workload, Split(tp, cp, pp)):
                    continue
                num = workload.global_batch_size // (workload.micro_batch_size * dp)
                for recompute in RECOMPUTE_MODES:
                    yield ParallelLayout(tp, cp, pp, dp, False, recompute, num)
                    # What training.fsdp refuses: pipeline stages, and float16.
                    half = workload.precision.name.startswith("16")
                    if fsdp and pp == 1 and dp * cp > 1 and not half:
                        yield ParallelLayout(tp, cp, pp, dp, True, recompute, num)


def legal_numbers(workload: Workload, per_node: int) -> set[int]:
    """Return every number of GPUs that some layout without FSDP spreads the step over.

    Args:
        workload: the training step.
        per_node: GPUs in a machine; tensor parallelism stays within one.
    """
    replicas = divisors(workload.global_batch_size // workload.micro_batch_size)
    splits = [
        tp * cp * pp
        for tp in range(1, per_node + 1)
        for cp in divisors(workload.num_tokens)
        for pp in divisors(workload.num_layers)
        if is_trainable(workload, Split(tp, cp, pp))
    ]
    return {split * dp for split in set(splits) for dp in replicas}


def is_trainable(workload: Workload, split: Split) -> bool:
    """Whether training accepts a split, by its own checks."""
    try:
        workload.check_split(split)
    except ConfigError:
        return False
    return True
