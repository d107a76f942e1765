"""Initial weights let the input through."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.models.tokenizer.network.initialise import initialise

PRESETS = ["tokenizer_nano_cv4x8x8", "tokenizer_nano_ci8x8", "tokenizer_dv8x16x16"]


@pytest.mark.parametrize("name", PRESETS)
def test_latents_carry_the_video_and_output_starts_small(name, tiny_network, random_video):
    net = tiny_network(name)
    initialise(net)
    factor = net.config.temporal_factor
    videos = [random_video(1, 1 + factor, 32, 32, seed=seed) for seed in (1, 2)]
    with torch.no_grad():
        first, second = (net.encoder(video) for video in videos)
        assert (first - second).std() > 0.1
        assert net(videos[0]).std() < 1.0


def test_a_fresh_decoder_hears_each_latent(tiny_network):
    net = tiny_network("tokenizer_nano_cv4x8x8")
    initialise(net)
    z = torch.randn(1, 16, 2, 2, 2)
    with torch.no_grad():
        assert (net.decode(z) - net.decode(-z)).abs().mean() > 1e-3


@pytest.mark.parametrize("name", ["tokenizer_nano_cv4x8x8", "tokenizer_nano_ci8x8"])
def test_a_few_steps_of_training_reduce_the_loss(name, tiny_network, random_video):
    net = tiny_network(name, channels=32).train()
    torch.manual_seed(0)
    initialise(net)
    coarse = random_video(1, 1 + net.config.temporal_factor, 4, 4)
    video = torch.nn.functional.interpolate(coarse, scale_factor=(1, 8, 8), mode="trilinear")
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        loss = (net(video) - video).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
