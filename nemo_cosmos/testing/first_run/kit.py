"""What the checks of a first run on a GPU share: timing, expectations, and small networks.

Every check is a function of a device. On a GPU it takes sizes of real use and says how fast they
were; on a CPU the same lines run at nano size, so that a fault of a check is found without a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.network.packs import PackedDiT
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.platform import seeded

Figures = dict[str, Any]
"""What a check found, as plain data."""

NANO_THW = (3, 8, 8)
FULL_THW = (16, 88, 160)
"""121 frames of 704x1280 as the 8x8x8 tokenizer gives them: 56,320 tokens."""


NANO: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 2,
    "crossattn_emb_channels": 12,
    "adaln_lora_dim": 8,
    "max_frames": 4,
    "max_height": 16,
    "max_width": 16,
    "condition_mask": True,
    "layer_spec": "local",
    "use_cpu_initialization": True,
}
"""Fields of the smallest network."""


class Skipped(Exception):  # noqa: N818 - nothing went wrong
    """A check has nothing to look at here."""


class Unexpected(AssertionError):  # noqa: N818 - it reads as a sentence in a report
    """A check found something other than expected."""


def expect(holds: object, what: str) -> None:
    """Require that something holds.

    Raises:
        Unexpected: it does not.
    """
    if not holds:
        raise Unexpected(what)


def is_full(device: torch.device) -> bool:
    """Whether a check takes the sizes of real use."""
    return device.type == "cuda"


def needs_gpu(device: torch.device, why: str) -> None:
    """Leave a check out on a CPU.

    Raises:
        Skipped: the device is one.
    """
    if not is_full(device):
        raise Skipped(why)


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Return the seconds of the fastest of some repeats, after one that does not count."""
    work()
    best = float("inf")
    for _ in range(repeats if is_full(device) else 1):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        best = min(best, time.perf_counter() - start)
    return best


def peak_gb(work: Callable[[], object], device: torch.device) -> float | None:
    """Return the GPU memory that some work took at most; None on a CPU."""
    if not is_full(device):
        work()
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    wait(device)
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2)


def error_of(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the distance to what is exact, over its length."""
    exact = exact.detach().double().cpu()
    return float((found.detach().double().cpu() - exact).norm() / exact.norm().clamp(min=1e-12))


def network(device: torch.device, dtype: torch.dtype = torch.float32, **changes: Any) -> PackedDiT:
    """A diffusion transformer of two layers, the same for every device and precision.

    Args:
        device: where it lives.
        dtype: the precision of its weights and layers.
        **changes: fields of :data:`NANO` to change.
    """
    with seeded(3):
        plain = {"layer_spec": "local", "fp8": None}
        net = PackedDiT(DiTConfig(**NANO | changes | plain))
        with torch.no_grad():
            for parameter in net.parameters():
                # A fresh network's gates are zero, and all gradients before them.
                parameter.add_(torch.randn(parameter.shape), alpha=0.05)
    if dtype == torch.float32 and changes.get("layer_spec", "local") == "local":
        return net.to(device)
    rounded = PackedDiT(DiTConfig(**NANO | half(dtype) | changes))
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            parameter.copy_(net.get_parameter(name))
    return rounded.to(device)


def half(dtype: torch.dtype) -> dict[str, Any]:
    """Fields of a configuration that compute in a precision."""
    if dtype == torch.float32:
        return {}
    return {"bf16": True, "params_dtype": dtype}


def wide_config(device: torch.device, num_layers: int = 2, **changes: Any) -> DiTConfig:
    """A configuration as wide as the 7B model on a GPU, and as nano on a CPU; bfloat16."""
    preset = DIFFUSION[
        "diffusion_7b_text2world" if is_full(device) else "diffusion_nano_text2world"
    ]
    return preset.config(
        num_layers=num_layers, layer_spec="local", **half(torch.bfloat16), **changes
    )


def inputs_for(
    config: DiTConfig,
    device: torch.device,
    latent_thw: tuple[int, int, int] = NANO_THW,
    *,
    batch: int = 1,
    text_tokens: int = 16,
    dtype: torch.dtype = torch.float32,
    seed: int = 1,
) -> NetworkInput:
    """Random inputs of a network, the same for every device."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return NetworkInput(
        draw(batch, config.in_channels, *latent_thw).to(device, dtype),
        draw(batch).to(device),
        draw(batch, text_tokens, config.crossattn_emb_channels).to(device, dtype),
        fps_B=torch.full((batch,), 24.0, device=device),
    )
