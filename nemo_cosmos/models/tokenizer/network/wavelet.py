"""The Haar wavelet patches at both ends of every tokenizer.

A level of the transform replaces neighbouring samples a, b by (a + b) and (a - b) along each axis,
scaled so that the low band is their mean. Two levels turn a 4x4x4 block of pixels into 64
coefficients a colour. Because the blocks do not overlap, all levels together are one fixed linear
map on a block, so the whole transform is a single matrix product. Its entries are powers of two:
it is exact even in bfloat16.

Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

_HAAR = (1 / math.sqrt(2), 1 / math.sqrt(2))


class HaarPatcher(nn.Module):
    """Pixels to wavelet patches.

    The buffers are those of the reference's state dict; nothing is computed from them.

    Args:
        patch_size: side of a block, a power of two.
        num_axes: 2 for blocks of height and width, 3 for time too.
        high_band_gain: factor on all bands but the block's mean.
    """

    def __init__(self, patch_size: int, num_axes: int, high_band_gain: float = 1.0) -> None:
        super().__init__()
        self.patch_size, self.num_axes, self.gain = patch_size, num_axes, high_band_gain
        _register_reference_buffers(self)
        if num_axes == 3:
            size = torch.full((1,), patch_size, dtype=torch.int32)
            self.register_buffer("patch_size_buffer", size)

    def forward(self, video_BCTHW: Tensor, *, at_start: bool = True) -> Tensor:
        """Patch a video; the result is (B, C p^axes, t, H/p, W/p), channels last in memory.

        Args:
            video_BCTHW: frames; with three axes, 1 + p n frames at the start of a video, where
                frame 0 is repeated to fill a patch of its own, and p n frames later.
            at_start: whether these frames begin the video.
        """
        p = self.patch_size
        if self.num_axes == 3 and at_start:
            first = video_BCTHW[:, :, :1].expand(-1, -1, p - 1, -1, -1)
            video_BCTHW = torch.cat([first, video_BCTHW], dim=2)
        pt = p if self.num_axes == 3 else 1
        B, C, T, H, W = video_BCTHW.shape
        blocks = video_BCTHW.reshape(B, C, T // pt, pt, H // p, p, W // p, p)
        blocks = blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(B, T // pt, H // p, W // p, C, -1)
        forward, _ = haar_matrices(p, self.num_axes, self.gain, blocks.dtype, blocks.device)
        bands = blocks @ forward.T
        patches_BTHWC = bands.transpose(-1, -2).flatten(-2)  # channel index is band * C + colour
        return patches_BTHWC.permute(0, 4, 1, 2, 3)


class HaarUnpatcher(nn.Module):
    """Wavelet patches back to pixels, the exact inverse of :class:`HaarPatcher`."""

    def __init__(self, patch_size: int, num_axes: int, high_band_gain: float = 1.0) -> None:
        super().__init__()
        self.patch_size, self.num_axes, self.gain = patch_size, num_axes, high_band_gain
        _register_reference_buffers(self)

    def forward(self, patches_BCTHW: Tensor, *, at_start: bool = True) -> Tensor:
        """Undo the patching; at the start of a video the p - 1 repeats of frame 0 are dropped."""
        p = self.patch_size
        pt = p if self.num_axes == 3 else 1
        B, _, T, H, W = patches_BCTHW.shape
        num_bands = pt * p * p
        bands = patches_BCTHW.permute(0, 2, 3, 4, 1).unflatten(-1, (num_bands, -1))
        _, inverse = haar_matrices(p, self.num_axes, self.gain, bands.dtype, bands.device)
        blocks = bands.transpose(-1, -2).contiguous() @ inverse.T
        blocks = blocks.reshape(B, T, H, W, -1, pt, p, p).permute(0, 4, 1, 5, 2, 6, 3, 7)
        video_BCTHW = blocks.reshape(B, -1, T * pt, H * p, W * p)
        return video_BCTHW[:, :, pt - 1 :] if at_start else video_BCTHW


@functools.cache
def haar_matrices(
    patch_size: int, num_axes: int, gain: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The map from a block's samples to its coefficients, (p^axes, p^axes), and its inverse.

    Rows of the map are bands in the reference's order: low before high, the last level outermost,
    and within a level time, height, width from the outside in for videos but width, height for
    images. Columns are samples in (time,) height, width order. Made by sending every unit impulse
    through the transform.
    """
    with torch.inference_mode(False), torch.no_grad():
        size = patch_size**num_axes
        impulses = torch.eye(size, device=device).reshape(size, 1, *[patch_size] * num_axes)
        while impulses.shape[-1] > 1:
            impulses = _haar_level(impulses, num_axes)
        forward = impulses.reshape(size, size).T
        gains = torch.full((size, 1), gain, device=device)
        gains[0] = 1.0
        # The rows are orthogonal with squared norm 1 / size, so the transpose all but inverts.
        inverse = size * (forward / gains).T
        return (forward * gains).contiguous().to(dtype), inverse.contiguous().to(dtype)


def _haar_level(x: Tensor, num_axes: int) -> Tensor:
    """One level on (B, C, *axes): half the size, 2^axes times the channels, low band the mean."""
    bands = [x]
    for axis in (-1, -2) if num_axes == 2 else (-3, -2, -1):
        halves = [band.unflatten(axis, (-1, 2)).unbind(axis) for band in bands]
        bands = [mix for even, odd in halves for mix in ((even + odd) / 2, (even - odd) / 2)]
    return torch.cat(bands, dim=1)


def _register_reference_buffers(module: nn.Module) -> None:
    module.register_buffer("wavelets", torch.tensor(_HAAR))
    module.register_buffer("_arange", torch.arange(len(_HAAR)))
