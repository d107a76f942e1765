"""Small members of the tokenizer family. The fixtures are functions, to be called with a preset."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS


def _tiny_config(preset: str, **changes: object) -> TokenizerConfig:
    """A preset with 8 (images 32) base channels and one residual block a level."""
    channels = 32 if TOKENIZERS[preset].kind == "image" else 8
    small = {"channels": channels, "num_res_blocks": 1, "z_channels": 16, **changes}
    return replace(TOKENIZERS[preset], **small)


def _tiny_network(preset: str, seed: int = 0, **changes: object) -> TokenizerNetwork:
    """A network with random weights in evaluation mode, whose output is about in [-1, 1].

    The inverse wavelet sums up to 64 random coefficients; the last convolution is scaled down so
    that pixels, and with them float32 rounding, have the size that a trained network's have.
    """
    torch.manual_seed(seed)
    net = TokenizerNetwork(_tiny_config(preset, **changes)).eval()
    with torch.no_grad():
        for parameter in net.decoder.conv_out.parameters():
            parameter.mul_(0.25)
    return net


def _random_video(*shape_BTHW: int, seed: int = 1) -> torch.Tensor:
    """A video (B,3,T,H,W) of uniform noise in [-1, 1]."""
    B, T, H, W = shape_BTHW
    return torch.rand(B, 3, T, H, W, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="session")
def tiny_config():
    return _tiny_config


@pytest.fixture(scope="session")
def tiny_network():
    return _tiny_network


@pytest.fixture(scope="session")
def random_video():
    return _random_video
