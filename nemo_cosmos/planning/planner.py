"""Choose the fastest layout that fits, and state its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.models.common.costs import Workload
from nemo_cosmos.planning.changes import Change, find_changes
from nemo_cosmos.planning.cost import Overlap, step_time
from nemo_cosmos.planning.hardware import GB, USABLE_MEMORY, Gpu
from nemo_cosmos.planning.layout import (
    ParallelLayout,
    legal_layouts,
    legal_numbers,
    numbers_of_gpus,
)
from nemo_cosmos.planning.memory import by_recomputation, memory
from nemo_cosmos.planning.search import Candidate, Search, Way, expected_mfu

MOST_GPUS = 16384
"""The largest number of GPUs that the search for a sufficient one tries."""


@dataclass(frozen=True)
class Plan:
    """What a run needs.

    Attributes:
        workload: the training step.
        gpu: kind of GPU.
        memory_bytes: memory of one GPU.
        overlap: what is sent while the GPU computes.
        best: the fastest layout that fits.
        others: the next fastest, one for each TP, CP, PP and FSDP or not.
        configured: the recipe's own layout; None where it is not legal on this many GPUs.
        problem: why the recipe's own layout is not legal; empty where it is.
        start: the layout that changes begin with: the recipe's own, or the fastest where that is
            not legal or does not fit.
        changes: what would make it faster, in order.
    """

    workload: Workload
    gpu: Gpu
    memory_bytes: float
    overlap: Overlap
    best: Candidate
    others: Sequence[Candidate]
    configured: Candidate | None
    problem: str
    start: Candidate
    changes: Sequence[Change]

    @property
    def model_flops(self) -> int:
        """Operations of a step without recomputation, over the global batch."""
        return self.workload.global_batch_size * self.workload.flops.training

    @property
    def flops(self) -> int:
        """Operations of a step over the global batch, with the chosen layout's recomputation."""
        sample = self.workload.flops
        again = self.best.layout.recomputed_share(self.workload.num_layers)
        return self.workload.global_batch_size * round(sample.training + again * sample.total)

    @property
    def mfu(self) -> float:
        """Model FLOP utilisation that the cost model expects."""
        return expected_mfu(self.workload, self.best, self.gpu)

    def to_dict(self) -> dict[str, object]:
        """Plain values for ``--json``; gigabytes are 10^9 bytes."""
        workload, best = self.workload, self.best
        parameters = workload.parameters
        trained = parameters.trained
        held = parameters.network + parameters.training_only
        held += parameters.layers * parameters.layer_adapters
        precision, published = workload.precision, workload.published_bytes()
        paper = {f"{kind}_gb": size / GB for kind, size in published.items()}
        state = {
            "weights": precision.compute_bytes * held,
            "gradients": precision.gradient_bytes * trained,
            "optimizer": precision.optimizer_bytes * trained,
            "ema": precision.ema_bytes * trained,
        }
        return {
            "parameters": workload.parameters.network,
            "parameters_trained": trained,
            "gpus": best.layout.num_gpus,
            "gpu": self.gpu.name,
            "gpu_memory_gb": self.memory_bytes / GB,
            "precision": precision.name + (" with FP8" if precision.fp8 else ""),
            **workload.describe(),
            "micro_batch_size": workload.micro_batch_size,
            "global_batch_size": workload.global_batch_size,
            "model_state_gb_total": sum(state.values()) / GB,
            "model_state_gb": {kind: size / GB for kind, size in state.items()},
            "checkpoint_gb": precision.checkpoint_bytes(parameters) / GB,
            "activation_gb_per_gpu": best.memory.activations / GB,
            "activation_gb_per_gpu_by_recompute": {
                mode: size / GB for mode, size in by_recomputation(workload, best.layout).items()
            },
            "flops_per_step": self.flops,
            "model_flops_per_step": self.model_flops,
            "forward_flops_per_sample": workload.flops.total,
            "elementwise": "compiled" if workload.is_fused else "plain",
            "overlap": asdict(self.overlap),
            **self._candidate(best),
            "overrides": best.layout.overrides(self.gpu.per_node),
            "others": [self._candidate(other) for other in self.others],
            "recipe_layout": self._configured(),
            "recipe_layout_problem": self.problem,
            "changes_from": self._candidate(self.start),
            "changes": [self._change(change) for change in self.changes],
            **({"paper_accounting": paper} if paper else {}),
        }

    def _configured(self) -> dict[str, object] | None:
        if self.configured is None:
            return None
        return {**self._candidate(self.configured), "fits": self.configured.fits(self.memory_bytes)}

    def _candidate(self, candidate: Candidate) -> dict[str, object]:
        layout, total_s = candidate.layout, candidate.time.total_s
        parts = asdict(candidate.time)
        return {
            "layout": {
                "tensor_model_parallel_size": layout.tp,
                "context_parallel_size": layout.cp,
                "pipeline_model_parallel_size": layout.pp,
                "data_parallel_size": layout.dp,
                "sequence_parallel": layout.tp > 1,
                "fsdp": layout.fsdp,
                "recompute": layout.recompute,
                "recompute_num_layers": layout.num_recomputed,
                "num_micro_batches": layout.num_micro_batches,
            },
            "memory_gb_per_gpu": {
                **{kind: size / GB for kind, size in asdict(candidate.memory).items()},
                "total": candidate.memory.total / GB,
            },
            "bubble": layout.bubble,
            "step_time_s": total_s,
            "step_time_parts_s": parts,
            "step_time_shares": {name: seconds / total_s for name, seconds in parts.items()},
            "mfu": expected_mfu(self.workload, candidate, self.gpu),
        }

    def _change(self, change: Change) -> dict[str, object]:
        after = change.after
        return {
            "change": change.words,
            "overrides": change.overrides,
            "gain_s": change.gain_s,
            "step_time_s": after.time.total_s,
            "mfu": expected_mfu(self.workload, after, self.gpu),
            "memory_gb_per_gpu": after.memory.total / GB,
        }


def make_plan(
    workload: Workload,
    gpu: Gpu,
    num_gpus: int,
    memory_bytes: float,
    own: ParallelLayout | str = "",
    overlap: Overlap | None = None,
    *,
    fsdp: bool = False,
) -> Plan:
    """Search all legal layouts.

    Args:
        workload: the training step.
        gpu: kind of GPU.
        num_gpus: number of GPUs.
        memory_bytes: memory of each GPU.
        own: the recipe's own layout, or why it has none on so many GPUs.
        overlap: what is sent while the GPU computes.
        fsdp: whether to consider layouts that split weights by FSDP.

    Raises:
        ConfigError: no layout is legal, or none fits; the message says what would.
    """
    search = Search(gpu, memory_bytes, num_gpus, fsdp)
    way = Way(workload, overlap or Overlap())
    candidates = search.candidates(way)
    if not candidates:
        raise ConfigError(
            f"No layout of {counted(num_gpus, 'GPU')} is legal: the global batch of "
            f"{counted(workload.global_batch_size, 'sample')} does not divide into "
            f"micro-batches of {workload.micro_batch_size} over what "
            f"{counted(workload.num_heads, 'head')}, {counted(workload.num_layers, 'layer')} and "
            f"{counted(workload.num_tokens, 'token')} leave for data parallelism. Use "
            f"{_nearest_legal(workload, gpu, num_gpus)}, or set "
            "data.global_batch_size to a multiple of the data-parallel size."
        )
    fitting = [candidate for candidate in candidates if candidate.fits(memory_bytes)]
    if not fitting:
        raise ConfigError(_what_would_fit(workload, gpu, candidates, memory_bytes, fsdp))
    problem = own if isinstance(own, str) else _problem(workload, own)
    configured = None
    if isinstance(own, ParallelLayout) and not problem:
        configured = search.candidate(way, own)
    fits = configured is not None and configured.fits(memory_bytes)
    start = configured if configured is not None and fits else fitting[0]
    return Plan(
        workload,
        gpu,
        memory_bytes,
        way.overlap,
        best=fitting[0],
        others=_distinct(fitting),
        configured=configured,
        problem=problem,
        start=start,
        changes=find_changes(search, way, start, fitting[0]),
    )


def _problem(workload: Workload, own: ParallelLayout) -> str:
    """Why training refuses a layout; empty where it does not."""
    try:
        workload.check_split(own.split)
    except ConfigError as error:
        return f"The recipe's own layout, {own.split_words()}, is not legal: {error}"
    return ""


def _nearest_legal(workload: Workload, gpu: Gpu, num_gpus: int) -> str:
    """The legal numbers of GPUs around ``num_gpus``, in words."""
    legal = legal_numbers(workload, gpu.per_node)
    below = max((number for number in legal if number < num_gpus), default=None)
    above = min((number for number in legal if number > num_gpus), default=None)
    return numbers_of_gpus([number for number in (below, above) if number is not None])


def _what_would_fit(
    workload: Workload,
    gpu: Gpu,
    candidates: Sequence[Candidate],
    memory_bytes: float,
    fsdp: bool,
) -> str:
    """Say how much is missing, and how many GPUs or how much memory would be enough."""
    least = min(candidates, key=lambda candidate: candidate.memory.total)
    num_gpus = least.layout.num_gpus
    text = (
        f"Nothing fits: the smallest of {counted(len(candidates), 'layout')} of "
        f"{counted(num_gpus, 'GPU')}, "
        f"{least.layout.describe()}, needs {least.memory.total / GB:.0f} GB on a GPU, and of "
        f"{memory_bytes / GB:.0f} GB about {memory_bytes * USABLE_MEMORY / GB:.0f} can be used. "
    )
    number = num_gpus * 2
    while number <= MOST_GPUS:
        more = [
            layout
            for layout in legal_layouts(workload, number, gpu.per_node, fsdp=fsdp)
            if memory(workload, layout).total <= memory_bytes * USABLE_MEMORY
        ]
        if more:
            fast = min(more, key=lambda one: step_time(workload, one, gpu).total_s)
            return f"{text}What would: {number} GPUs with {fast.describe()}, or {_enough(least)}."
        number *= 2
    return f"{text}What would: {_enough(least)}, or shorter or smaller videos."


def _enough(least: Candidate) -> str:
    return f"GPUs of {least.memory.total / USABLE_MEMORY / GB:.0f} GB"


def _kind(layout: ParallelLayout) -> tuple[int, int, int, bool]:
    return (layout.tp, layout.cp, layout.pp, layout.fsdp)


def _distinct(candidates: Sequence[Candidate], limit: int = 5) -> list[Candidate]:
    """The fastest of each kind after the first."""
    best: dict[tuple[int, int, int, bool], Candidate] = {}
    for candidate in candidates:
        best.setdefault(_kind(candidate.layout), candidate)
    return list(best.values())[1 : limit + 1]
