"""Peaks of GPUs, from NVIDIA's data sheets: the one table that training and planning read."""

from __future__ import annotations

BF16_PEAK_FLOPS = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "L40S": 362e12,
}
"""Dense bfloat16 peak of one GPU in FLOP/s, without sparsity."""


def bf16_peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 peak of a GPU in FLOP/s; None for one that the table lacks.

    Args:
        device_name: the name that CUDA reports, such as ``"NVIDIA H100 80GB HBM3"``.
    """
    # Longer names first: "H100 PCIe" is slower than what "H100" alone means.
    for name in sorted(BF16_PEAK_FLOPS, key=len, reverse=True):
        if name in device_name:
            return BF16_PEAK_FLOPS[name]
    return None
