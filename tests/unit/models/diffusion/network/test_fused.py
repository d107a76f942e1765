"""The network with its elementwise steps as plain formulas: the same results and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.network.packs import PackedDiT
from nemo_cosmos.platform import ensure_model_parallel

SIZES: dict[str, Any] = {
    "num_layers": 2, "hidden_size": 48, "num_attention_heads": 2, "crossattn_emb_channels": 16,
    "adaln_lora_dim": 8, "max_frames": 4, "max_height": 8, "max_width": 8,
}  # fmt: skip


def sample(frames: int, levels: int) -> NetworkInput:
    generator = torch.Generator().manual_seed(frames)
    x, text = (
        torch.randn(shape, generator=generator) for shape in ((1, 16, frames, 8, 6), (1, 5, 16))
    )
    return NetworkInput(x, torch.linspace(-1, 1, levels)[None], text, torch.tensor([24.0]))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("extra_pos_emb", [False, True])
@pytest.mark.filterwarnings("ignore:If you are using transformer_engine:UserWarning")
def test_plain_equals_auto(packed: bool, extra_pos_emb: bool) -> None:
    ensure_model_parallel()
    found = {}
    for mode in ("auto", "plain"):
        torch.manual_seed(0)
        net = PackedDiT(DiTConfig(**SIZES, extra_pos_emb=extra_pos_emb, fused=mode))
        for parameter in net.parameters():  # also of the gates, which start at zero
            torch.nn.init.normal_(parameter, std=0.1)
        inputs: Any = [sample(3, 3), sample(2, 1)] if packed else sample(4, 4)
        predicted = net(inputs)
        loss = sum(x.square().mean() for x in (predicted if packed else [predicted]))
        found[mode] = [loss, *torch.autograd.grad(loss, list(net.parameters()))]
    for got, right in zip(found["auto"], found["plain"], strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-6)
