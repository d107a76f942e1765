"""What GPUs can do, from NVIDIA's data sheets: peaks, and the precisions of each generation."""

from __future__ import annotations

from nemo_cosmos.errors import nearest_names

BF16_PEAK_FLOPS = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "L40S": 362e12,
}
"""Dense bfloat16 peak of one GPU in FLOP/s, without sparsity."""

BF16_CAPABILITY = (8, 0)
"""The CUDA compute capability that bfloat16 products and flash attention begin with (Ampere)."""

FP8_CAPABILITIES: dict[str, tuple[int, int]] = {
    "tensorwise": (8, 9),
    "delayed": (8, 9),
    "blockwise": (9, 0),
    "mxfp8": (10, 0),
}
"""The CUDA compute capability that each FP8 recipe begins with (Ada 8.9, Hopper 9.0, Blackwell
10.0)."""


def fp8_problem(recipe: str, capability: tuple[int, int] | None) -> str:
    """Return why a GPU cannot compute an FP8 recipe, and what to do; empty where it can.

    Args:
        recipe: a key of :data:`FP8_CAPABILITIES`.
        capability: the GPU's compute capability; None without a GPU.
    """
    needed = FP8_CAPABILITIES[recipe]
    if capability is not None and capability >= needed:
        return ""
    has = "there is no CUDA device"
    if capability is not None:
        has = f"this one has {capability[0]}.{capability[1]}"
    works = [name for name, least in FP8_CAPABILITIES.items() if capability and capability >= least]
    remedy = f"Use {nearest_names(recipe, works)}" if works else "Train without FP8"
    return (
        f"The FP8 recipe '{recipe}' needs a GPU of compute capability {needed[0]}.{needed[1]}, "
        f"and {has}. {remedy}."
    )


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
