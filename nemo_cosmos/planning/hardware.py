"""Figures of the hardware that the cost model computes with; all of them are here.

Peaks and bandwidths are the makers' data-sheet values, dense (without sparsity) and, for links, in
one direction. :class:`Achieved` is what large training runs get out of them. None of it was
measured by us; the published throughput of NeMo's DiT checks it
(``tests/unit/planning/test_planner.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.platform.hardware import BF16_PEAK_FLOPS

GB = 1e9
"""Bytes of a gigabyte in every figure of the planner (not 2^30)."""

CONVOLUTION_EFFICIENCY = 0.35
"""Share of the peak that 3-D convolutions of a few hundred channels reach."""
LAUNCH_S = 6e-6
"""Time in which the host starts one kernel."""
STEP_HOST_S = 5e-3
"""What the host does once a step while the GPU waits: schedules, counts, logging."""
TENSOR_OVERLAP = 0.45
"""Share of tensor-parallel communication that Transformer Engine's buffers hide behind products."""

USABLE_MEMORY = 0.94
"""Share of a GPU's memory that tensors can fill before fragmentation stops them."""
CONTEXT_BYTES = 2.0 * GB
"""CUDA context, NCCL buffers and library workspaces of a process."""


@dataclass(frozen=True)
class Achieved:
    """Shares of a data sheet's figures that large training runs reach.

    The defaults are Hopper's, from what is published of cuBLAS, cuDNN's attention and NCCL on H100:
    690 TFLOP/s in bfloat16 products, 600 and 480 in attention forward and backward, 3.0 TB/s of
    memory, 350 GB/s of NVLink. FP8 products include the conversions.

    Attributes:
        products: matrix products in bfloat16 and float32.
        fp8_products: matrix products in FP8.
        attention_forward: fused attention, of the operations that it executes.
        attention_backward: its backward pass, which executes 2.5 times the forward operations.
        memory: elementwise kernels.
        nvlink: large collectives within a machine.
        network: large collectives between machines.
    """

    products: float = 0.70
    fp8_products: float = 0.53
    attention_forward: float = 0.607
    attention_backward: float = 0.485
    memory: float = 0.90
    nvlink: float = 0.78
    network: float = 0.80


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU and the machine it sits in.

    Attributes:
        name: the name that ``--gpu`` takes.
        bf16_flops: dense bfloat16 peak, FLOP/s.
        fp8_flops: dense FP8 peak, FLOP/s; 0 where the hardware has none.
        fp32_flops: peak of float32 matrix products (TF32), FLOP/s.
        memory_bytes_per_s: bandwidth of its memory.
        nvlink_bytes_per_s: bandwidth to another GPU of the machine, one direction.
        network_bytes_per_s: bandwidth to a GPU of another machine, one direction.
        memory_gb: its usual memory in 10^9 bytes.
        per_node: GPUs in a machine.
        achieved: what runs get out of these figures.
    """

    name: str
    bf16_flops: float
    fp8_flops: float
    fp32_flops: float
    memory_bytes_per_s: float
    nvlink_bytes_per_s: float
    network_bytes_per_s: float
    memory_gb: int
    per_node: int = 8
    achieved: Achieved = Achieved()

    def peak_flops(self, precision: str) -> float:
        """Peak of bfloat16 products, or of float32 products where the precision is ``"32"``."""
        return self.fp32_flops if precision.startswith("32") else self.bf16_flops

    def link_bytes_per_s(self, num_gpus: int) -> float:
        """What a collective over ``num_gpus`` neighbouring GPUs gets through its slowest link."""
        if num_gpus <= self.per_node:
            return self.nvlink_bytes_per_s * self.achieved.nvlink
        return self.network_bytes_per_s * self.achieved.network


# Ampere has no FP8, and FlashAttention 2 nears its peak further than Hopper's kernels near theirs.
_AMPERE = Achieved(fp8_products=0.0, attention_forward=0.64, attention_backward=0.55)
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu(
            "a100", BF16_PEAK_FLOPS["A100"], 0.0, 156e12, 2.04e12, 300e9, 25e9, 80,
            achieved=_AMPERE,
        ),
        Gpu("h100", BF16_PEAK_FLOPS["H100"], 1979e12, 494e12, 3.35e12, 450e9, 50e9, 80),
        Gpu("h200", BF16_PEAK_FLOPS["H200"], 1979e12, 494e12, 4.8e12, 450e9, 50e9, 141),
        Gpu("b200", BF16_PEAK_FLOPS["B200"], 4500e12, 1100e12, 8.0e12, 900e9, 50e9, 180),
    )
}  # fmt: skip


def get_gpu(name: str) -> Gpu:
    """Return the GPU called ``name``, in capitals or not.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    found = GPUS.get(str(name).lower())
    if found is None:
        nearest = nearest_names(str(name).lower(), GPUS)
        raise ConfigError(
            f"There is no GPU '{name}' in the planner. Valid are {nearest}; "
            "their figures are in nemo_cosmos/planning/hardware.py."
        )
    return found
