"""Time of a training step, term by term.

The estimate ranks layouts and promises nothing: matrix products and attention run at a share of
the peak, element-wise work at a share of the memory bandwidth, communication as volume over
bandwidth.
The shares and bandwidths are in ``hardware``. With t, c, p ranks along the axes, n tokens of
width E on one GPU's part and w bytes a value, a layer moves for one micro-batch:

- tensor parallelism with sequence parallelism: an all-gather before and a reduce-scatter after each
  of its sub-layers, in both directions, and one all-gather more for the gradient of weights:
  5 collectives of n E w (t - 1) bytes a sub-layer (7 with full recomputation);
- context parallelism by all-to-all: q, k, v and output, in both directions:
  8 n E w (c - 1) / c bytes (12 with full recomputation), or, where the heads do not divide,
  a ring of keys and values;
- pipeline parallelism: a stage's output and its gradient between neighbours, and the bubble
  (p - 1) / m of the time of m micro-batches.

Once a step, gradients are reduced and weights gathered over the data-parallel ranks (not hidden
behind computation, as the default settings do it). FSDP gathers weights twice and reduces gradients
once for every micro-batch, hidden behind computation as far as that reaches.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nemo_cosmos.models.common.costs import Workload
from nemo_cosmos.planning.hardware import (
    ATTENTION_EFFICIENCY,
    MATMUL_EFFICIENCY,
    MEMORY_EFFICIENCY,
    Gpu,
)
from nemo_cosmos.planning.layout import ParallelLayout

ELEMENTWISE_PASSES = 6
"""How often a kept value is moved: written and read forward, twice as often backward."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimiser step.

    Attributes:
        matmul_s: matrix products outside attention.
        attention_s: attention scores and sums.
        elementwise_s: everything bound by memory bandwidth.
        tensor_parallel_s: collectives of tensor parallelism.
        context_parallel_s: collectives of context parallelism.
        pipeline_s: transfers between stages.
        bubble_s: waiting of pipeline stages.
        data_parallel_s: gradients, weights and the optimiser, as far as not hidden.
    """

    matmul_s: float
    attention_s: float
    elementwise_s: float
    tensor_parallel_s: float
    context_parallel_s: float
    pipeline_s: float
    bubble_s: float
    data_parallel_s: float

    @property
    def total_s(self) -> float:
        """The whole step."""
        return sum(asdict(self).values())


def step_time(workload: Workload, layout: ParallelLayout, gpu: Gpu) -> StepTime:
    """Estimate the time of one optimiser step."""
    num = layout.num_micro_batches
    matmul_s, attention_s = _compute(workload, layout, gpu)
    layers = workload.num_layers // layout.pp
    extra = 4 / 3 if layout.recompute == "full" else 1.0
    moved = layers * workload.layer_bytes(layout.split) * ELEMENTWISE_PASSES * extra
    elementwise_s = moved / (gpu.memory_bytes_per_s * MEMORY_EFFICIENCY)
    tensor_s = layers * _tensor_parallel(workload, layout, gpu)
    context_s = layers * _context_parallel(workload, layout, gpu)
    transfer_s = _pipeline(workload, layout, gpu)
    micro_s = matmul_s + attention_s + elementwise_s + tensor_s + context_s + transfer_s
    return StepTime(
        matmul_s=num * matmul_s,
        attention_s=num * attention_s,
        elementwise_s=num * elementwise_s,
        tensor_parallel_s=num * tensor_s,
        context_parallel_s=num * context_s,
        pipeline_s=num * transfer_s,
        bubble_s=(layout.pp - 1) * micro_s,
        data_parallel_s=_data_parallel(workload, layout, gpu, micro_s),
    )


def _compute(workload: Workload, layout: ParallelLayout, gpu: Gpu) -> tuple[float, float]:
    """Seconds of matrix products and of attention of one micro-batch on one GPU."""
    flops, precision = workload.flops, workload.precision
    times = 4 if layout.recompute == "full" else 3
    attention_times = 4 if layout.recompute in ("full", "selective") else 3
    share = workload.micro_batch_size / (layout.tp * layout.cp * layout.pp)
    peak = gpu.peak_flops(precision.name)
    fast = gpu.peak_flops("fp8") if precision.fp8 and gpu.fp8_flops else peak
    return (
        times * flops.other * share / (fast * MATMUL_EFFICIENCY),
        attention_times * flops.attention * share / (peak * ATTENTION_EFFICIENCY),
    )


def _wide_bytes(workload: Workload, layout: ParallelLayout) -> float:
    """Bytes of one value of the width E for the tokens of one context-parallel rank."""
    tokens = workload.num_tokens * workload.micro_batch_size / layout.cp
    return tokens * workload.hidden_size * workload.precision.compute_bytes


def _tensor_parallel(workload: Workload, layout: ParallelLayout, gpu: Gpu) -> float:
    if layout.tp == 1:
        return 0.0
    collectives = workload.sublayers * (7 if layout.recompute == "full" else 5)
    volume = _wide_bytes(workload, layout) * (layout.tp - 1) / layout.tp
    return collectives * volume / gpu.link_bytes_per_s(layout.tp)


def _context_parallel(workload: Workload, layout: ParallelLayout, gpu: Gpu) -> float:
    if layout.cp == 1:
        return 0.0
    heads = workload.num_heads // layout.tp
    passes = 3 if layout.recompute == "full" else 2
    local = _wide_bytes(workload, layout) / layout.tp
    volume = (
        4 * local * (layout.cp - 1) / layout.cp
        if heads % layout.cp == 0
        else 2 * local * (layout.cp - 1)
    )
    return passes * volume / gpu.link_bytes_per_s(layout.tp * layout.cp)


def _pipeline(workload: Workload, layout: ParallelLayout, gpu: Gpu) -> float:
    if layout.pp == 1:
        return 0.0
    volume = 2 * _wide_bytes(workload, layout) / layout.tp
    return volume / gpu.link_bytes_per_s(layout.num_gpus)


def _data_parallel(workload: Workload, layout: ParallelLayout, gpu: Gpu, micro_s: float) -> float:
    """Seconds of exchanging gradients and weights and of stepping the optimiser."""
    precision, ranks = workload.precision, layout.state_ranks
    held = workload.parameters.on_stage(layout.tp, layout.pp)
    steps = held / ranks * (precision.optimizer_bytes + precision.ema_bytes) * 2
    update_s = steps / (gpu.memory_bytes_per_s * MEMORY_EFFICIENCY)
    if ranks == 1:
        return update_s
    link = gpu.link_bytes_per_s(layout.tp * ranks)
    ring = held * (ranks - 1) / ranks / link
    if not layout.fsdp:
        return update_s + ring * (precision.gradient_bytes + precision.compute_bytes)
    exchange_s = ring * (precision.gradient_bytes + 2 * precision.compute_bytes)
    return update_s + layout.num_micro_batches * max(0.0, exchange_s - micro_s)
