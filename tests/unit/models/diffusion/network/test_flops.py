"""The count of operations against the published figures and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.flops import dit_flops
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.platform import ensure_model_parallel, kernels


def test_the_7b_model_at_full_size() -> None:
    flops = dit_flops(DIFFUSION["diffusion_7b_text2world"].config(), (16, 88, 160))
    assert flops.forward == pytest.approx(2.21e15, rel=0.005)
    assert flops.self_attention / flops.forward == pytest.approx(0.66, abs=0.005)
    assert flops.training == 3 * flops.forward


@pytest.mark.parametrize("per_frame", [False, True])
def test_every_product_is_counted(per_frame: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_model_parallel()
    config = DIFFUSION["diffusion_nano_video2world"].config(num_layers=2, ffn_hidden_size=600)
    net, frames = DiT(config), 3
    x, text = torch.randn(2, 16, frames, 8, 12), torch.randn(2, 7, 512)
    c_noise = torch.zeros(2, frames) if per_frame else torch.zeros(2)
    # the counter knows no formula for a CPU's own kernels, but counts the products of torch's plain
    # ones
    monkeypatch.setattr(kernels, "_is_plain_cpu", lambda x: False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(NetworkInput(x, c_noise, text))
    flops = dit_flops(config, (frames, 8, 12), 7, 2, noise_levels=frames if per_frame else 1)
    assert flops.forward == counter.get_total_flops()
