"""Patches, noise levels and learned positions."""

from __future__ import annotations

import math

import pytest
import torch

from nemo_cosmos.models.common.fused import add_gated, modulate
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.embeddings import (
    LearnedPositionEmbedding,
    PatchEmbed,
    TimestepEmbedding,
    sinusoid,
    unpatchify,
)


@pytest.fixture
def config() -> DiTConfig:
    return DiTConfig(
        num_layers=1, hidden_size=40, num_attention_heads=2, patch_temporal=2, max_frames=8,
        max_height=12, max_width=20,
    )  # fmt: skip


def test_a_patch_becomes_the_token_at_its_place(config: DiTConfig) -> None:
    embed = PatchEmbed(config)
    x = torch.randn(1, config.input_channels, 4, 6, 8)
    tokens = embed(x)
    patch = x[0, :, 2:4, 4:6, 2:4].flatten()  # frame 1, row 2, column 1 of a (2, 3, 4) grid
    torch.testing.assert_close(tokens[1 * 12 + 2 * 4 + 1, 0], embed.proj.weight @ patch)


def test_unpatchify_puts_each_value_in_its_place() -> None:
    grid, patch, channels = (2, 3, 4), (2, 2, 2), 5
    values = torch.arange(24 * 8 * channels, dtype=torch.float32).reshape(24, 1, 8 * channels)
    out = unpatchify(values, grid, patch)
    assert out.shape == (1, 5, 4, 6, 8)
    # token (1, 2, 3); within it row 1, column 0, frame 1, channel 4, in (h, w, t, C) order
    token, value = 1 * 12 + 2 * 4 + 3, ((1 * 2 + 0) * 2 + 1) * channels + 4
    assert out[0, 4, 2 * 1 + 1, 2 * 2 + 1, 2 * 3 + 0] == values[token, 0, value]


def test_sinusoid() -> None:
    emb = sinusoid(torch.tensor([0.0, 2.0]), 8)
    assert emb[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    for index, frequency in enumerate((1, 10000**-0.25, 10000**-0.5, 10000**-0.75)):
        assert emb[1, index].item() == pytest.approx(math.cos(2 * frequency), abs=1e-6)
        assert emb[1, 4 + index].item() == pytest.approx(math.sin(2 * frequency), abs=1e-6)


def test_timestep_control_is_added_before_the_norm(config: DiTConfig) -> None:
    embed = TimestepEmbedding(config)
    c_noise = torch.tensor([[0.3]])
    plain, shared = embed(c_noise)
    control = torch.ones(1, 3, config.hidden_size)
    moved, moved_shared = embed(c_noise, control, 2 * torch.ones(1, 1, 3 * config.hidden_size))
    expected = embed.norm(sinusoid(c_noise, config.hidden_size) + control.transpose(0, 1))
    assert moved.shape == (3, 1, config.hidden_size)
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(moved_shared, shared + 2)
    assert plain.square().mean().item() == pytest.approx(1, abs=1e-4)


def test_learned_positions_are_distinct_and_of_unit_size(config: DiTConfig) -> None:
    embed = LearnedPositionEmbedding(config)
    emb = embed((2, 3, 4))
    assert emb.shape == (24, 1, 40)
    torch.testing.assert_close(emb.square().mean(-1).sqrt(), torch.ones(24, 1), atol=1e-4, rtol=0)
    assert torch.unique(emb[:, 0], dim=0).shape[0] == 24
    # a larger grid has the smaller one's positions
    torch.testing.assert_close(embed((3, 4, 6)).unflatten(0, (3, 4, 6))[1, 2, 3], emb[12 + 8 + 3])


def test_modulation_by_frame() -> None:
    torch.manual_seed(0)
    x, update = torch.randn(6, 2, 8), torch.randn(6, 2, 8)  # 3 frames of 2 tokens, 2 samples
    shift, scale, gate = torch.randn(3, 3, 2, 8).unbind()
    modulated, gated = modulate(x, shift, scale), add_gated(x, gate, update)
    for token in range(6):
        frame = token // 2
        normed = torch.nn.functional.layer_norm(x[token], (8,), eps=1e-6)
        torch.testing.assert_close(modulated[token], normed * (1 + scale[frame]) + shift[frame])
        torch.testing.assert_close(gated[token], x[token] + gate[frame] * update[token])
