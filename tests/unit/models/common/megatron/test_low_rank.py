"""Adapters of both families: nothing changes at first, and they alone learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nemo_cosmos.models.autoregressive.build import build_network as build_ar
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import TokenInput
from nemo_cosmos.models.diffusion.build import build_network as build_dit
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.tiny import tiny_network
from nemo_cosmos.training.adapters.lora import LoRA


def diffusion() -> tuple[nn.Module, object]:
    process = DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=0))
    net = build_dit(tiny_network(condition_mask=False), process)
    text = torch.randn(1, 8, 12)
    return net, NetworkInput(torch.randn(1, 16, 2, 4, 4), torch.tensor([0.1]), text)


def autoregressive() -> tuple[nn.Module, object]:
    config = ARConfig(
        num_layers=2,
        hidden_size=48,
        ffn_hidden_size=40,
        num_attention_heads=4,
        num_query_groups=2,
        vocab_size=90,
        max_frames=2,
        max_height=4,
        max_width=4,
        layer_spec="local",
    )
    net = build_ar(config)
    places = net.place_table((2, 2, 4), torch.device("cpu")).at(torch.arange(16))
    return net, TokenInput(torch.randint(90, (1, 16)), places)


@pytest.fixture(params=[diffusion, autoregressive], ids=lambda made: made.__name__)
def made(request) -> tuple[nn.Module, object]:
    ensure_model_parallel()
    torch.manual_seed(0)
    net, inputs = request.param()
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.1)
    return net, inputs


def test_a_new_adapter_leaves_the_output_bit_identical(made):
    net, inputs = made
    net.requires_grad_(False)  # as worlds are loaded: Megatron rounds trained maps in another way
    with torch.no_grad():
        before = net(inputs)
        LoRA(dim=2).apply(net)
        assert torch.equal(net(inputs), before)


def test_adapters_alone_have_gradients(made):
    net, inputs = made
    names = dict(net.named_parameters()).keys()
    LoRA(dim=2).apply(net)
    added = [name for name, _ in net.named_parameters() if name not in names]
    for name, weight in net.named_parameters():
        if "lora_b" in name:
            nn.init.normal_(weight, std=0.1)
    net(inputs).float().square().sum().backward()
    grown = [name for name, weight in net.named_parameters() if weight.grad is not None]
    assert grown == added
    assert all(weight.grad.any() for name, weight in net.named_parameters() if name in added)


def test_the_first_factors_depend_on_name_and_seed_alone(made):
    net, _ = made
    LoRA(dim=2, seed=5).apply(net)
    state = net.state_dict()
    first, other = (
        state[f"blocks.layers.{layer}.self_attention.linear_proj.adapter.lora_a"]
        for layer in (0, 1)
    )
    assert not torch.equal(first, other)
    torch.manual_seed(99)
    again = diffusion()[0] if "patch_embed.proj.weight" in state else autoregressive()[0]
    LoRA(dim=2, seed=5).apply(again)
    name = "blocks.layers.0.self_attention.linear_proj.adapter.lora_a"
    assert torch.equal(again.state_dict()[name], first)
