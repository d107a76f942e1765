"""The Haar patches, against the definition by convolution and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nemo_cosmos.models.tokenizer.network.wavelet import HaarPatcher, HaarUnpatcher


def reference_level_2d(x_NCHW: torch.Tensor) -> torch.Tensor:
    """One level by strided convolution, along width first, as public Cosmos-Tokenizer has it."""
    groups = x_NCHW.shape[1]
    s = 0.5**0.5
    low = torch.tensor([s, s]).repeat(groups, 1, 1)
    high = torch.tensor([s, -s]).repeat(groups, 1, 1)
    bands = []
    for along_width in (low, high):
        part = F.conv2d(x_NCHW, along_width[:, :, None], groups=groups, stride=(1, 2))
        bands += [
            F.conv2d(part, along_height[..., None], groups=groups, stride=(2, 1))
            for along_height in (low, high)
        ]
    return torch.cat(bands, dim=1) / 2


def test_image_patches_equal_convolutions():
    frames = torch.randn(2, 3, 16, 24)
    expected = reference_level_2d(reference_level_2d(frames))
    patches = HaarPatcher(4, num_axes=2)(frames[:, :, None])[:, :, 0]
    torch.testing.assert_close(patches, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("patch_size", [2, 4])
@pytest.mark.parametrize("num_axes", [2, 3])
def test_inverse_restores_the_video(patch_size, num_axes):
    video = torch.randn(2, 3, 9, 16, 8)
    patches = HaarPatcher(patch_size, num_axes)(video)
    assert patches.shape[1] == 3 * patch_size**num_axes
    restored = HaarUnpatcher(patch_size, num_axes)(patches)
    torch.testing.assert_close(restored, video, rtol=0, atol=1e-5)


def test_first_band_is_the_mean_and_the_first_patch_is_frame_0_alone():
    video = torch.randn(1, 3, 5, 8, 8)
    patches = HaarPatcher(4, 3)(video)
    mean = video[:, :, :1].unfold(3, 4, 4).unfold(4, 4, 4).mean((-1, -2))
    torch.testing.assert_close(patches[:, :3, :1], mean)
    changed = torch.cat([video[:, :, :1], torch.randn(1, 3, 4, 8, 8)], dim=2)
    torch.testing.assert_close(HaarPatcher(4, 3)(changed)[:, :, 0], patches[:, :, 0])


def test_exact_in_bfloat16():
    video = torch.randint(-8, 8, (1, 3, 5, 8, 8)).bfloat16()
    restored = HaarUnpatcher(4, 3)(HaarPatcher(4, 3)(video))
    assert torch.equal(restored, video)


def test_patches_are_channels_last():
    patches = HaarPatcher(4, 3)(torch.randn(1, 3, 5, 16, 16))
    assert patches.is_contiguous(memory_format=torch.channels_last_3d)
