"""Time of a training step, term by term.

The estimate is arithmetic, not a measurement: what is computed, moved and sent, over what the
hardware achieves of its peaks (``hardware``). With t, c, p ranks along the axes, n tokens of width
E on a rank, w bytes a value, and r forward passes (1, or 2 where all layers are recomputed), a
layer of a micro-batch takes:

- attention: r times its forward operations, and 2.5 times them backward, each at its own rate;
- products: (r + 2) times the forward operations, in FP8 as far as that is on;
- elementwise work: r times its forward passes over n E w bytes of memory, and its backward passes;
- tensor parallelism with sequence parallelism: an all-gather before and a reduce-scatter after each
  sub-layer in every forward pass and in the backward pass, and one all-gather for the gradient of
  weights: 2 r + 3 collectives of n E w (t - 1) bytes. In FP8 gathers carry half;
- context parallelism: a ring of keys and values (``p2p``), whose steps run while attention
  computes, so that only what outlasts it counts; or all-to-all of q, k, v and output (``a2a``);
- pipeline parallelism: a stage's output and its gradient between neighbours, and the bubble
  (p - 1) / m of the time of m micro-batches;
- the host: the start of kernels as far as it outlasts them.

Once a step come the exchange of gradients and weights over the data-parallel ranks, hidden behind
the last backward and the next forward pass where that is switched on, and the optimiser. FSDP
gathers weights twice and reduces gradients once for every micro-batch, hidden behind computation as
far as that reaches.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nemo_cosmos.models.common.costs import Workload, token_bytes
from nemo_cosmos.planning.hardware import LAUNCH_S, STEP_HOST_S, TENSOR_OVERLAP, Gpu
from nemo_cosmos.planning.layout import ParallelLayout

ATTENTION_BACKWARD = 2.5
"""Operations of fused attention's backward pass over the forward pass: it computes scores again."""
FP8_GATHERED = 0.5
"""Bytes of an all-gather in FP8 over one in bfloat16."""
HIDING = 0.9
"""Share of computation behind which communication can hide: the first and last pieces stand out."""
HIDDEN_COST = 0.1
"""What hidden communication costs of its time: its kernels take processors from the computation."""


@dataclass(frozen=True)
class Overlap:
    """What is sent while the GPU computes.

    Attributes:
        data: gradients and weights between data-parallel ranks.
        tensor: activations between tensor-parallel ranks (``tp_comm_overlap``).
    """

    data: bool = False
    tensor: bool = False


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimiser step.

    Attributes:
        attention_s: attention scores and sums.
        matmul_s: all other matrix products.
        elementwise_s: everything bound by memory bandwidth.
        tensor_parallel_s: collectives of tensor parallelism that are not hidden.
        context_parallel_s: exchange of keys and values, as far as it is not hidden.
        pipeline_s: transfers between stages.
        bubble_s: waiting of pipeline stages.
        data_parallel_s: exchange of gradients and weights that is not hidden.
        optimizer_s: the optimiser and the average of the weights.
        host_s: waiting for the host.
    """

    attention_s: float
    matmul_s: float
    elementwise_s: float
    tensor_parallel_s: float
    context_parallel_s: float
    pipeline_s: float
    bubble_s: float
    data_parallel_s: float
    optimizer_s: float
    host_s: float

    @property
    def total_s(self) -> float:
        """The whole step."""
        return sum(asdict(self).values())


def step_time(
    workload: Workload, layout: ParallelLayout, gpu: Gpu, overlap: Overlap | None = None
) -> StepTime:
    """Estimate the time of one optimiser step."""
    return _Step(workload, layout, gpu, overlap or Overlap()).time()


class _Step:
    """The parts of the estimate, of one micro-batch on one GPU unless they say otherwise."""

    def __init__(
        self, workload: Workload, layout: ParallelLayout, gpu: Gpu, overlap: Overlap
    ) -> None:
        self.workload, self.layout, self.gpu, self.overlap = workload, layout, gpu, overlap
        self.layers = workload.num_layers // layout.pp
        self.repeated = layout.recomputed_share(workload.num_layers)
        self.is_fp8 = workload.precision.fp8 and gpu.fp8_flops > 0
        self.bytes_per_value = token_bytes(workload, layout.split)
        self.memory_bytes_per_s = gpu.memory_bytes_per_s * gpu.achieved.memory

    def time(self) -> StepTime:
        """Add up all parts."""
        num, layout = self.layout.num_micro_batches, self.layout
        forward_s, backward_s = self._attention()
        attention_s = forward_s + backward_s
        parts = {
            "matmul_s": self._products(),
            "elementwise_s": self._elementwise(),
            "tensor_parallel_s": self._tensor_parallel(),
            "context_parallel_s": self._context_parallel(forward_s, backward_s),
            "pipeline_s": self._pipeline(),
        }
        on_gpu_s = attention_s + sum(parts.values())
        host_s = max(0.0, self._launches() * LAUNCH_S - on_gpu_s)
        micro_s = on_gpu_s + host_s
        return StepTime(
            attention_s=num * attention_s,
            **{name: num * seconds for name, seconds in parts.items()},
            bubble_s=(layout.pp - 1) * micro_s,
            data_parallel_s=self._data_parallel(micro_s),
            optimizer_s=self._optimizer(),
            host_s=num * host_s + STEP_HOST_S,
        )

    @property
    def share(self) -> float:
        """Of a sample's operations, those of this GPU; times the samples."""
        layout = self.layout
        return self.workload.micro_batch_size / (layout.tp * layout.cp * layout.pp)

    def _attention(self) -> tuple[float, float]:
        """Seconds forward, repeated passes included, and backward."""
        peak, achieved = self._peak(), self.gpu.achieved
        flops = self.workload.flops.attention * self.share
        repeated = 1.0 if self.layout.recompute == "selective" else self.repeated
        return (
            (1 + repeated) * flops / (peak * achieved.attention_forward),
            ATTENTION_BACKWARD * flops / (peak * achieved.attention_backward),
        )

    def _products(self) -> float:
        sample = self.workload.flops
        flops = (sample.product_passes + self.repeated) * sample.other * self.share
        usual = flops / (self._peak() * self.gpu.achieved.products)
        if not self.is_fp8:
            return usual
        fast = flops / (self.gpu.fp8_flops * self.gpu.achieved.fp8_products)
        return self.workload.fp8_share * fast + (1 - self.workload.fp8_share) * usual

    def _elementwise(self) -> float:
        work = self.workload.elementwise
        passes = (1 + self.repeated) * work.forward_passes + work.backward_passes
        return self.layers * passes * self.bytes_per_value / self.memory_bytes_per_s

    def _launches(self) -> float:
        work = self.workload.elementwise
        kernels = (1 + self.repeated) * work.forward_kernels + work.backward_kernels
        return self.layers * kernels

    def _tensor_parallel(self) -> float:
        tp = self.layout.tp
        if tp == 1:
            return 0.0
        passes = 1 + self.repeated
        gathers, scatters = passes + 2, passes + 1
        if self.is_fp8:
            gathers *= 1 - self.workload.fp8_share * (1 - FP8_GATHERED)
        volume = self.bytes_per_value * (tp - 1)
        seconds = self.workload.sublayers * (gathers + scatters) * volume / self._link(tp)
        return self.layers * seconds * (1 - TENSOR_OVERLAP if self.overlap.tensor else 1)

    def _context_parallel(self, forward_s: float, backward_s: float) -> float:
        cp = self.layout.cp
        if cp == 1:
            return 0.0
        own, link = self.layers * self.bytes_per_value, self._link(self.layout.tp * cp)
        forward = 1 + self.repeated
        if self.workload.context_kind == "a2a":
            return (forward + 1) * 4 * own * (cp - 1) / cp / link
        # The last of cp steps computes with keys that have come; none are on their way.
        hiding = (cp - 1) / cp
        ring_s = (cp - 1) * 2 * own / link
        forward_ring_s = _behind(forward * ring_s, hiding * forward_s)
        return forward_ring_s + _behind(2 * ring_s, hiding * backward_s)

    def _pipeline(self) -> float:
        if self.layout.pp == 1:
            return 0.0
        return 2 * self.bytes_per_value / self._link(self.layout.num_gpus)

    def _data_parallel(self, micro_s: float) -> float:
        """Seconds of a step in which gradients and weights travel and nothing is computed."""
        layout, precision = self.layout, self.workload.precision
        ranks = layout.state_ranks
        if ranks == 1:
            return 0.0
        ring_s = (ranks - 1) / ranks / self._link(layout.tp * ranks)
        # FSDP gathers frozen weights, too.
        gathered = self._held() if layout.fsdp else self._trained()
        reduce_s = self._trained() * precision.gradient_bytes * ring_s
        gather_s = gathered * precision.compute_bytes * ring_s
        if layout.fsdp:
            return layout.num_micro_batches * _behind(reduce_s + 2 * gather_s, micro_s)
        if not self.overlap.data:
            return reduce_s + gather_s
        return _behind(reduce_s, micro_s * 2 / 3) + _behind(gather_s, micro_s / 3)

    def _optimizer(self) -> float:
        """Seconds of a step in which the optimiser's state is read and written."""
        precision = self.workload.precision
        state = 2 * (precision.optimizer_bytes + precision.ema_bytes) + precision.gradient_bytes
        return self._trained() / self.layout.state_ranks * state / self.memory_bytes_per_s

    def _held(self) -> int:
        return self.workload.parameters.on_stage(self.layout.tp, self.layout.pp)

    def _trained(self) -> int:
        return self.workload.parameters.trained_on_stage(self.layout.tp, self.layout.pp)

    def _peak(self) -> float:
        return self.gpu.peak_flops(self.workload.precision.name)

    def _link(self, num_gpus: int) -> float:
        return self.gpu.link_bytes_per_s(num_gpus)


def _behind(sent_s: float, computed_s: float) -> float:
    """What communication adds to the computation that it runs beside."""
    hidden_s = min(sent_s, HIDING * computed_s)
    return sent_s - hidden_s + HIDDEN_COST * hidden_s
