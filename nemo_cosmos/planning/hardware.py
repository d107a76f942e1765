"""Figures of the hardware that the cost model computes with; all of them are here.

Peaks and bandwidths are the makers' data-sheet values, dense (without sparsity) and, for links, in
one direction. Efficiencies are what large training runs get out of them; they were set once so that
the model gives the published throughput of NeMo's DiT (``tests/unit/planning/test_planner.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.platform.hardware import BF16_PEAK_FLOPS

GB = 1e9
"""Bytes of a gigabyte in every figure of the planner (not 2^30)."""

MATMUL_EFFICIENCY = 0.72
"""Share of the peak that large matrix products reach."""
ATTENTION_EFFICIENCY = 0.55
"""Share of the peak that fused attention reaches, forward and backward together."""
CONVOLUTION_EFFICIENCY = 0.35
"""Share of the peak that 3-D convolutions of a few hundred channels reach."""
LINK_EFFICIENCY = 0.8
"""Share of a link's bandwidth that large collectives reach."""
MEMORY_EFFICIENCY = 0.8
"""Share of the memory bandwidth that element-wise kernels reach."""

USABLE_MEMORY = 0.94
"""Share of a GPU's memory that tensors can fill before fragmentation stops them."""
CONTEXT_BYTES = 2.0 * GB
"""CUDA context, NCCL buffers and library workspaces of a process."""


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
        per_node: GPUs in a machine.
    """

    name: str
    bf16_flops: float
    fp8_flops: float
    fp32_flops: float
    memory_bytes_per_s: float
    nvlink_bytes_per_s: float
    network_bytes_per_s: float
    per_node: int = 8

    def peak_flops(self, precision: str) -> float:
        """Peak in a precision: ``"fp8"``, ``"32"`` or anything half (``"bf16-mixed"``)."""
        if precision == "fp8":
            return self.fp8_flops
        return self.fp32_flops if precision.startswith("32") else self.bf16_flops

    def link_bytes_per_s(self, num_gpus: int) -> float:
        """What a collective over ``num_gpus`` neighbouring GPUs gets through its slowest link."""
        within = num_gpus <= self.per_node
        link = self.nvlink_bytes_per_s if within else self.network_bytes_per_s
        return link * LINK_EFFICIENCY


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100", BF16_PEAK_FLOPS["A100"], 0.0, 156e12, 2.04e12, 300e9, 25e9),
        Gpu("h100", BF16_PEAK_FLOPS["H100"], 1979e12, 494e12, 3.35e12, 450e9, 50e9),
        Gpu("h200", BF16_PEAK_FLOPS["H200"], 1979e12, 494e12, 4.8e12, 450e9, 50e9),
        Gpu("b200", BF16_PEAK_FLOPS["B200"], 4500e12, 1100e12, 8.0e12, 900e9, 50e9),
    )
}


def get_gpu(name: str) -> Gpu:
    """Return the GPU called ``name``.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in GPUS:
        raise ConfigError(
            f"There is no GPU '{name}' in the planner. Valid are {nearest_names(str(name), GPUS)}; "
            "their figures are in nemo_cosmos/planning/hardware.py."
        )
    return GPUS[name]
