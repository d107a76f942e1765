"""Choose the fastest layout that fits, and state its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.costs import Workload
from nemo_cosmos.planning.cost import StepTime, step_time
from nemo_cosmos.planning.hardware import GB, USABLE_MEMORY, Gpu
from nemo_cosmos.planning.layout import ParallelLayout, legal_layouts, legal_numbers
from nemo_cosmos.planning.memory import Memory, by_recomputation, memory

MOST_GPUS = 16384
"""The largest number of GPUs that the search for a sufficient one tries."""


@dataclass(frozen=True)
class Candidate:
    """A layout with its memory and time."""

    layout: ParallelLayout
    memory: Memory
    time: StepTime

    def fits(self, memory_bytes: float) -> bool:
        """Whether a GPU of ``memory_bytes`` is enough."""
        return self.memory.total <= memory_bytes * USABLE_MEMORY


@dataclass(frozen=True)
class Plan:
    """What a run needs.

    Attributes:
        workload: the training step.
        gpu: kind of GPU.
        memory_bytes: memory of one GPU.
        best: the fastest layout that fits.
        others: the next fastest, one for each TP, CP, PP and FSDP or not.
        configured: the recipe's own layout; None where it is not legal on this many GPUs.
    """

    workload: Workload
    gpu: Gpu
    memory_bytes: float
    best: Candidate
    others: Sequence[Candidate]
    configured: Candidate | None

    @property
    def model_flops(self) -> int:
        """Operations of a step without recomputation, over the global batch."""
        return self.workload.global_batch_size * self.workload.flops.training

    @property
    def flops(self) -> int:
        """Operations of a step over the global batch, with the chosen layout's recomputation."""
        sample = self.workload.flops
        full = self.best.layout.recompute == "full"
        each = sample.recomputed_training if full else sample.training
        return self.workload.global_batch_size * each

    @property
    def mfu(self) -> float:
        """Model FLOP utilisation that the cost model expects."""
        peak = self.gpu.peak_flops(
            "fp8" if self.workload.precision.fp8 else (self.workload.precision.name)
        )
        return self.model_flops / (self.best.time.total_s * self.best.layout.num_gpus * peak)

    def to_dict(self) -> dict[str, object]:
        """Plain values for ``--json``; gigabytes are 10^9 bytes."""
        workload, best = self.workload, self.best
        trained = workload.parameters.trained
        precision, published = workload.precision, workload.published_bytes()
        paper = {f"{kind}_gb": size / GB for kind, size in published.items()}
        state = {
            "weights": precision.compute_bytes,
            "gradients": precision.gradient_bytes,
            "optimizer": precision.optimizer_bytes,
            "ema": precision.ema_bytes,
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
            "model_state_gb_total": trained * precision.state_bytes / GB,
            "model_state_gb": {kind: trained * size / GB for kind, size in state.items()},
            "activation_gb_per_gpu": best.memory.activations / GB,
            "activation_gb_per_gpu_by_recompute": {
                mode: size / GB for mode, size in by_recomputation(workload, best.layout).items()
            },
            "flops_per_step": self.flops,
            "model_flops_per_step": self.model_flops,
            "forward_flops_per_sample": workload.flops.total,
            "mfu": self.mfu,
            **_candidate(best),
            "overrides": best.layout.overrides(self.gpu.per_node),
            "others": [_candidate(other) for other in self.others],
            "recipe_layout": self._configured(),
            **({"paper_accounting": paper} if paper else {}),
        }

    def _configured(self) -> dict[str, object] | None:
        if self.configured is None:
            return None
        return {**_candidate(self.configured), "fits": self.configured.fits(self.memory_bytes)}


def make_plan(
    workload: Workload,
    gpu: Gpu,
    num_gpus: int,
    memory_bytes: float,
    configured: tuple[int, int, int, bool] = (1, 1, 1, False),
    recompute: str = "none",
    *,
    fsdp: bool = False,
) -> Plan:
    """Search all legal layouts.

    Args:
        workload: the training step.
        gpu: kind of GPU.
        num_gpus: number of GPUs.
        memory_bytes: memory of each GPU.
        configured: the recipe's own TP, CP, PP and whether it splits weights by FSDP.
        recompute: the recipe's own recomputation.
        fsdp: whether to consider layouts that split weights by FSDP.

    Raises:
        ConfigError: no layout is legal, or none fits; the message says what would.
    """
    candidates = _candidates(workload, gpu, num_gpus, fsdp)
    fitting = [candidate for candidate in candidates if candidate.fits(memory_bytes)]
    if not fitting:
        raise ConfigError(_what_would_fit(workload, gpu, candidates, memory_bytes, fsdp))
    own = next(
        (
            c
            for c in candidates
            if _kind(c.layout) == configured and c.layout.recompute == recompute
        ),
        None,
    )
    return Plan(workload, gpu, memory_bytes, fitting[0], _distinct(fitting), own)


def _candidates(workload: Workload, gpu: Gpu, num_gpus: int, fsdp: bool) -> list[Candidate]:
    """Every legal layout, the fastest first.

    Raises:
        ConfigError: there is none.
    """
    found = [
        Candidate(
            layout,
            memory(workload, layout),
            step_time(workload, layout, gpu),
        )
        for layout in legal_layouts(workload, num_gpus, gpu.per_node, fsdp=fsdp)
    ]
    if not found:
        raise ConfigError(
            f"No layout of {num_gpus} GPUs is legal: the global batch of "
            f"{workload.global_batch_size} samples does not divide into micro-batches of "
            f"{workload.micro_batch_size} over what {workload.num_heads} heads, "
            f"{workload.num_layers} layers and {workload.num_tokens} tokens leave for data "
            f"parallelism. Use {_nearest_legal(workload, gpu, num_gpus)} GPUs, or set "
            "data.global_batch_size to a multiple of the data-parallel size."
        )
    return sorted(found, key=lambda candidate: candidate.time.total_s)


def _nearest_legal(workload: Workload, gpu: Gpu, num_gpus: int) -> str:
    """The legal numbers of GPUs around ``num_gpus``, in words."""
    legal = legal_numbers(workload, gpu.per_node)
    below = max((number for number in legal if number < num_gpus), default=None)
    above = min((number for number in legal if number > num_gpus), default=None)
    return " or ".join(str(number) for number in (below, above) if number is not None)


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
        f"Nothing fits: the smallest of {len(candidates)} layouts of {num_gpus} GPUs, "
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


def _candidate(candidate: Candidate) -> dict[str, object]:
    layout = candidate.layout
    return {
        "layout": {
            "tensor_model_parallel_size": layout.tp,
            "context_parallel_size": layout.cp,
            "pipeline_model_parallel_size": layout.pp,
            "data_parallel_size": layout.dp,
            "sequence_parallel": layout.tp > 1,
            "fsdp": layout.fsdp,
            "recompute": layout.recompute,
            "num_micro_batches": layout.num_micro_batches,
        },
        "memory_gb_per_gpu": {
            **{kind: size / GB for kind, size in asdict(candidate.memory).items()},
            "total": candidate.memory.total / GB,
        },
        "bubble": layout.bubble,
        "step_time_s": candidate.time.total_s,
        "step_time_parts_s": asdict(candidate.time),
    }
