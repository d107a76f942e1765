"""A network of shared weights computes what the whole one does; here one rank has all parts."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor

from nemo_cosmos.models.diffusion.build import WorldNetwork, build_network
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.parallel.shared_weights import share_weights
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs, make_denoiser
from nemo_cosmos.platform import default_device, ensure_model_parallel

CONFIG = DiTConfig(
    num_layers=2,
    hidden_size=48,
    num_attention_heads=2,
    crossattn_emb_channels=12,
    adaln_lora_dim=8,
    max_frames=4,
    max_height=8,
    max_width=8,
    layer_spec="local",
    passthrough_init=False,
)


def make_networks() -> tuple[WorldNetwork, WorldNetwork]:
    """A network with random weights, whole and shared."""
    ensure_model_parallel()
    whole, shared = (
        build_network(CONFIG, DiffusionConfig()).to(default_device()).eval() for _ in range(2)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for ours, theirs in zip(whole.parameters(), shared.parameters(), strict=True):
            theirs.copy_(ours.normal_(std=0.1))
    share_weights(shared)
    return whole, shared


def make_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_BCTHW = torch.randn(1, 16, 3, 4, 4, generator=generator)
    text_BLD = torch.randn(1, 5, 12, generator=generator)
    device = default_device()
    return x_BCTHW.to(device), text_BLD.to(device), torch.ones(1, device=device)


def test_a_guided_denoiser_gives_the_same_at_every_step() -> None:
    x_BCTHW, text_BLD, fps_B = make_inputs()
    given = SamplingInputs(text_BLD, torch.zeros_like(text_BLD), guidance=2.0, fps_B=fps_B)
    whole, shared = (make_denoiser(net, given, DiffusionConfig()) for net in make_networks())
    with torch.no_grad():
        for sigma in (5.0, 0.5):
            sigma_B = fps_B * sigma
            torch.testing.assert_close(shared(x_BCTHW, sigma_B), whole(x_BCTHW, sigma_B))


def test_a_call_that_computes_the_places_itself_keeps_its_weights_together() -> None:
    x_BCTHW, text_BLD, fps_B = make_inputs()
    whole, shared = make_networks()
    with torch.no_grad():
        expected, found = (
            net(NetworkInput(x_BCTHW, fps_B, net.encode_text(text_BLD), fps_B=fps_B))
            for net in (whole, shared)
        )
    torch.testing.assert_close(found, expected)
    assert all(isinstance(p, DTensor) for p in shared.blocks.parameters())
