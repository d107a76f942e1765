"""Our continuous video tokenizers equal ``diffusers.AutoencoderKLCosmos`` with mapped weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nemo_cosmos.checkpoint.tokenizer.keys import from_diffusers, to_diffusers
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS

diffusers = pytest.importorskip("diffusers")

PRESETS = [
    "tokenizer_cv4x8x8",
    "tokenizer_cv8x8x8",
    "tokenizer_cv8x16x16",
    "tokenizer_cv4x8x8_lowres",
    "tokenizer_nano_cv4x8x8",
]


def diffusers_model(config: TokenizerConfig):
    widths = [config.channels * mult for mult in config.channels_mult]
    return diffusers.AutoencoderKLCosmos(
        encoder_block_out_channels=(config.channels, *widths),
        decode_block_out_channels=(*widths, widths[-1]),
        num_layers=config.num_res_blocks,
        patch_size=config.patch_size,
        spatial_compression_ratio=config.spatial_factor,
        temporal_compression_ratio=config.temporal_factor,
    ).eval()


def small(name: str, channels: int) -> TokenizerConfig:
    """A preset made small, without the gain on wavelet bands that the reference does not know."""
    return replace(TOKENIZERS[name], channels=channels, high_band_gain=1.0)


def same_networks(config: TokenizerConfig):
    """Ours and theirs with the same random weights.

    The inverse wavelet sums up to 64 random coefficients; the last convolution is scaled so that
    pixels have the size that a trained network's have, and rounding with them.
    """
    torch.manual_seed(0)
    ours = TokenizerNetwork(config).eval()
    with torch.no_grad():
        for parameter in ours.decoder.conv_out.parameters():
            parameter.mul_(0.25)
    theirs = diffusers_model(config)
    theirs.load_state_dict(to_diffusers(ours), strict=True)
    return ours, theirs


def largest_differences(ours, theirs, video) -> tuple[float, float]:
    with torch.no_grad():
        z, z_theirs = ours.encode(video), theirs.encode(video).latent_dist.mode()
        frames, frames_theirs = ours.decode(z_theirs), theirs.decode(z_theirs).sample
    assert z.shape == z_theirs.shape and frames.shape == frames_theirs.shape
    assert z_theirs.std() > 0.05 and frames_theirs.std() > 0.05
    return (z - z_theirs).abs().max().item(), (frames - frames_theirs).abs().max().item()


def video(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("name", PRESETS)
def test_small_configurations(name):
    ours, theirs = same_networks(small(name, channels=16))
    differences = largest_differences(ours, theirs, video(2, 3, 17, 32, 48))
    print(name, differences)
    assert max(differences) <= 1e-5


@pytest.mark.parametrize("name", PRESETS)
def test_small_configurations_in_float64(name):
    """Without rounding in the way, nothing at all is left."""
    ours, theirs = same_networks(small(name, channels=8))
    ours, theirs = ours.double(), theirs.double()
    theirs.encoder.patch_embed.wavelets.fill_(0.5**0.5)  # kept in float32 until here
    theirs.decoder.unpatch_embed.wavelets.fill_(0.5**0.5)
    assert max(largest_differences(ours, theirs, video(1, 3, 17, 32, 32).double())) <= 1e-12


def test_one_image():
    ours, theirs = same_networks(replace(TOKENIZERS["tokenizer_cv8x8x8"], channels=8))
    assert max(largest_differences(ours, theirs, video(1, 3, 1, 32, 32))) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokenizer_cv8x8x8", "tokenizer_cv4x8x8"])
def test_full_size(name):
    ours, theirs = same_networks(TOKENIZERS[name])
    differences = largest_differences(ours, theirs, video(1, 3, 9, 32, 32))
    print(name, differences)
    assert max(differences) <= 1e-5


def test_weights_come_back_from_diffusers():
    config = replace(TOKENIZERS["tokenizer_cv8x8x8"], channels=8)
    ours, theirs = same_networks(config)
    again = TokenizerNetwork(config)
    again.load_state_dict(from_diffusers(theirs.state_dict(), config), strict=True)
    for key, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_published_normalisation_is_per_channel_and_latent_frame():
    from diffusers.models.autoencoders.autoencoder_kl_cosmos import LATENTS_MEAN, LATENTS_STD

    mean, std = (torch.tensor(values).view(16, 16) for values in (LATENTS_MEAN, LATENTS_STD))
    stats = LatentStats(mean, std)
    z = torch.randn(1, 16, 16, 2, 2)
    expected = (z - mean.view(1, 16, 16, 1, 1)) / std.view(1, 16, 16, 1, 1)
    torch.testing.assert_close(stats.normalise(z), expected)
    torch.testing.assert_close(stats.normalise(z[:, :, :3]), expected[:, :, :3])
    torch.testing.assert_close(stats.denormalise(stats.normalise(z)), z)
