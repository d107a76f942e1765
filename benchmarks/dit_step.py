"""A training step of our diffusion transformer against diffusers', with the same weights.

Four layers, width 384, 1,024 tokens, 128 text tokens. The two sides alternate in one process; the
figure is the median of the paired ratios (above 1: ours is faster); ``cpu_ratio_median`` is that of
CPU seconds, for a busy machine. Outputs and gradients are compared before anything is timed. Prints
one JSON line for each precision.

    python benchmarks/dit_step.py [--pairs 15] [--precision float32 bfloat16] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

warnings.filterwarnings("ignore")

import torch  # noqa: E402
from pairs import alternate, machine, summary  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from nemo_cosmos.checkpoint.diffusion.keys import (  # noqa: E402
    export_diffusion_state,
    import_diffusion_state,
)
from nemo_cosmos.models.diffusion.network.config import DiTConfig  # noqa: E402
from nemo_cosmos.models.diffusion.network.dit import DiT  # noqa: E402
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput  # noqa: E402
from nemo_cosmos.platform import default_device, ensure_model_parallel  # noqa: E402

WIDTH, HEADS, LAYERS, TEXT_WIDTH, TEXT_TOKENS = 384, 6, 4, 1024, 128
LATENT_THW = (4, 32, 32)  # 4 * 16 * 16 = 1,024 tokens

Step = Callable[[], torch.Tensor]


def build_pair(dtype: torch.dtype) -> tuple[DiT, torch.nn.Module]:
    """Our network and diffusers', with equal random weights."""
    from diffusers import CosmosTransformer3DModel
    from diffusers.models.transformers import transformer_cosmos

    transformer_cosmos.transforms = SimpleNamespace(  # torchvision has no build for a CPU torch
        functional=SimpleNamespace(
            resize=lambda mask, size, interpolation: F.interpolate(mask, size=size)
        ),
        InterpolationMode=SimpleNamespace(NEAREST="nearest"),
    )
    size: dict[str, Any] = {"num_layers": LAYERS, "adaln_lora_dim": 256}
    torch.manual_seed(0)
    reference = CosmosTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        text_embed_dim=TEXT_WIDTH,
        max_size=(16, 64, 64),
        **size,
    )
    with torch.no_grad():  # diffusers starts these at zero, where their normalisation is singular
        for table in reference.learnable_pos_embed.parameters():
            table.normal_(std=WIDTH**-0.5)
    config = DiTConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        crossattn_emb_channels=TEXT_WIDTH,
        max_frames=16,
        max_height=64,
        max_width=64,
        rope_ratios_thw=(2.0, 1.0, 1.0),
        params_dtype=dtype,
        **size,
    )
    net = DiT(config)
    net.load_state_dict(import_diffusion_state(reference.state_dict(), config, "diffusers"))
    device = default_device()
    return net.to(device), reference.to(device, dtype)


def build_steps(net: DiT, reference: torch.nn.Module, dtype: torch.dtype) -> tuple[Step, Step]:
    """The two training steps: forward, squared error, backward."""
    device = default_device()
    generator = torch.Generator().manual_seed(1)
    shape = (1, 16, *LATENT_THW)
    x, target = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(2))
    text = torch.randn(1, TEXT_TOKENS, TEXT_WIDTH, generator=generator).to(device, dtype)
    c_noise, fps = torch.tensor([0.1], device=device), torch.tensor([24.0], device=device)
    mask = torch.zeros(1, 1, *LATENT_THW[1:], device=device, dtype=dtype)

    def ours() -> torch.Tensor:
        net.zero_grad(set_to_none=True)
        loss = F.mse_loss(net(NetworkInput(x, c_noise, text, fps, mask)).float(), target.float())
        loss.backward()
        return loss.detach()

    def theirs() -> torch.Tensor:
        reference.zero_grad(set_to_none=True)
        out = reference(x, c_noise, text, fps=24.0, padding_mask=mask, return_dict=False)[0]
        loss = F.mse_loss(out.float(), target.float())
        loss.backward()
        return loss.detach()

    return ours, theirs


def check_equal(net: DiT, reference: torch.nn.Module, steps: tuple[Step, Step]) -> float:
    """Assert that loss and gradients agree; return the largest relative gradient difference."""
    tolerance = 1e-4 if net.dtype == torch.float32 else 5e-2
    ours, theirs = (step() for step in steps)
    assert abs(ours - theirs) <= tolerance * theirs.abs(), (ours, theirs)
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    exported = export_diffusion_state(gradients, net.config, "diffusers")
    worst = 0.0
    for name, parameter in reference.named_parameters():
        expected = parameter.grad
        assert expected is not None, name
        difference = (exported[name] - expected).float().norm()
        worst = max(worst, (difference / expected.float().norm()).item())
    assert worst <= tolerance, worst
    return worst


def run(dtype: torch.dtype, num_pairs: int) -> dict[str, Any]:
    """Measure one precision."""
    net, reference = build_pair(dtype)
    steps = build_steps(net, reference, dtype)
    worst = check_equal(net, reference, steps)
    ours, theirs = steps
    pairs = alternate(ours, theirs, num_pairs)
    return {
        "benchmark": "dit_step",
        "against": "diffusers CosmosTransformer3DModel",
        "precision": str(dtype).removeprefix("torch."),
        "device": str(default_device()),
        **summary(pairs),
        "gradient_difference": worst,
        **machine(),
    }


def main() -> None:
    """Parse the command line and print one JSON line for each precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ensure_model_parallel()
    for precision in arguments.precision:
        print(json.dumps(run(getattr(torch, precision), arguments.pairs)), flush=True)


if __name__ == "__main__":
    main()
