"""Shapes, causality, gradients and precision of the networks."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.errors import InputError, WrongFrameCountError, WrongSizeError
from nemo_cosmos.models.tokenizer.network.layers3d import (
    SpatialConv,
    TemporalConv,
    fold_frames,
    unfold_frames,
)
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS

VIDEO_PRESETS = ["tokenizer_cv4x8x8", "tokenizer_cv8x8x8", "tokenizer_cv4x8x8_lowres"]


@pytest.mark.parametrize("name", [n for n in TOKENIZERS if not n.endswith("_360p")])
def test_latents_and_pixels_have_the_promised_shapes(tiny_network, random_video, name):
    net = tiny_network(name)
    config = net.config
    num_frames = 1 + 2 * config.temporal_factor
    video = random_video(2, num_frames, 32, 48)
    with torch.no_grad():
        latents = net.encode(video)
        restored = net.decode(latents)
    channels, *rest = config.latent_shape(num_frames, 32, 48)
    assert tuple(latents.shape) == ((2, *rest) if config.discrete else (2, channels, *rest))
    assert restored.shape == video.shape


@pytest.mark.parametrize("name", [*VIDEO_PRESETS, "tokenizer_nano_cv4x8x8"])
def test_a_later_frame_never_changes_an_earlier_latent(tiny_network, random_video, name):
    net = tiny_network(name)
    factor = net.config.temporal_factor
    video = random_video(1, 1 + 3 * factor, 16, 16)
    later = video.clone()
    later[:, :, 1 + factor] += 0.5  # the first frame of the third latent
    with torch.no_grad():
        difference = (net.encode(later) - net.encode(video)).abs().amax((0, 1, 3, 4))
    assert difference[:2].max() == 0
    assert difference[2:].min() > 0


@pytest.mark.parametrize("name", VIDEO_PRESETS)
def test_a_later_latent_never_changes_an_earlier_frame(tiny_network, name):
    net = tiny_network(name)
    z = torch.randn(1, 16, 4, 2, 2)
    later = z.clone()
    later[:, :, 2] += 1.0
    with torch.no_grad():
        difference = (net.decode(later) - net.decode(z)).abs().amax((0, 1, 3, 4))
    first_changed = 1 + net.config.temporal_factor
    assert difference[:first_changed].max() == 0
    assert difference[first_changed:].min() > 0


def test_an_image_is_the_first_frame_of_a_video(tiny_network, random_video):
    net = tiny_network("tokenizer_cv8x8x8")
    video = random_video(1, 9, 16, 16)
    with torch.no_grad():
        image, whole = net.encode(video[:, :, :1]), net.encode(video)
    torch.testing.assert_close(image, whole[:, :, :1], rtol=0, atol=1e-6)


def test_image_networks_treat_each_frame_alone(tiny_network, random_video):
    net = tiny_network("tokenizer_ci8x8")
    video = random_video(1, 3, 16, 16)
    with torch.no_grad():
        together = net.encode(video)
        alone = torch.cat([net.encode(frame) for frame in video.split(1, dim=2)], dim=2)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["tokenizer_nano_cv4x8x8", "tokenizer_dv4x8x8", "tokenizer_di8x8"])
def test_gradients_reach_every_parameter(tiny_network, random_video, name):
    net = tiny_network(name).train()
    video = random_video(1, 1 + net.config.temporal_factor, 16, 16)
    (net(video) - video).abs().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_forward_is_decode_of_encode(tiny_network, random_video):
    for name in ("tokenizer_cv4x8x8", "tokenizer_dv4x8x8"):
        net = tiny_network(name)
        video = random_video(1, 5, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(net(video), net.decode(net.encode(video)), rtol=0, atol=1e-5)


def test_bfloat16_works_and_agrees(tiny_network, random_video):
    net = tiny_network("tokenizer_cv4x8x8")
    video = random_video(1, 9, 16, 16)
    with torch.no_grad():
        exact = net(video)
        rough = net.to(torch.bfloat16)(video.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.02


def test_spatial_and_temporal_convolutions_equal_conv3d():
    x = torch.randn(2, 4, 5, 6, 6)
    for layer, padding, stride in (
        (SpatialConv(4, 7), (0, 1, 1), (1, 1, 1)),
        (SpatialConv(4, 7, size=1), (0, 0, 0), (1, 1, 1)),
    ):
        weight, bias = layer.conv3d.weight, layer.conv3d.bias
        expected = torch.conv3d(x, weight, bias, stride, padding)
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)
    layer = TemporalConv(4)
    padded = torch.cat([x[:, :, :1], x[:, :, :1], x], dim=2)
    torch.testing.assert_close(layer(x), layer.conv3d(padded), rtol=0, atol=1e-5)


def test_folding_channels_last_frames_copies_nothing():
    x = torch.randn(2, 4, 3, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    assert fold_frames(x).data_ptr() == x.data_ptr()
    assert torch.equal(unfold_frames(fold_frames(x), 2), x)


def test_wrong_videos_are_refused_before_any_work(tiny_network, random_video):
    net = tiny_network("tokenizer_cv4x8x8")
    with pytest.raises(WrongFrameCountError, match="5 or 9"):
        net.encode(random_video(1, 8, 16, 16))
    with pytest.raises(WrongSizeError, match="16 and 24"):
        net.encode(random_video(1, 5, 20, 16))
    with pytest.raises(InputError, match="video tensor"):
        net.encode(torch.zeros(3, 5, 16, 16))
