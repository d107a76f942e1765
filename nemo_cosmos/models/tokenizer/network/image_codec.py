"""Encoder and decoder of the image tokenizers (CI, DI).

They take videos as everything else does, and treat each frame alone.

Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.network.layers2d import (
    Attention2d,
    Downsample2d,
    ResBlock2d,
    Upsample2d,
    group_norm,
)
from nemo_cosmos.models.tokenizer.network.layers3d import fold_frames, unfold_frames
from nemo_cosmos.models.tokenizer.network.streaming import CausalCache
from nemo_cosmos.models.tokenizer.network.wavelet import HaarPatcher, HaarUnpatcher


class ImageLevel(nn.Module):
    """The residual blocks of one resolution, and the step to the next where there is one."""

    def __init__(
        self,
        widths: list[int],
        dropout: float,
        downsample: nn.Module | None = None,
        upsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResBlock2d(a, b, dropout) for a, b in pairwise(widths))
        self.downsample, self.upsample = downsample, upsample

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N,C,H,W) to (N,C',H',W')."""
        for block in (*self.block, self.downsample, self.upsample):
            if block is not None:
                x_NCHW = block(x_NCHW)
        return x_NCHW


class ImageMiddle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.block_1 = ResBlock2d(channels, channels, dropout)
        self.attn_1 = Attention2d(channels)
        self.block_2 = ResBlock2d(channels, channels, dropout)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N,C,H,W) to the same shape."""
        return self.block_2(self.attn_1(self.block_1(x_NCHW)))


class ImageEncoder(nn.Module):
    """Frames to the input of ``quant_conv``."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.channels * mult for mult in (1, *config.channels_mult)]
        self.patcher = HaarPatcher(config.patch_size, 2, config.high_band_gain)
        self.conv_in = nn.Conv2d(config.patch_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths[1:]):
            step = Downsample2d(width) if level < config.num_spatial_steps else None
            level_widths = [widths[level]] + [width] * config.num_res_blocks
            self.down.append(ImageLevel(level_widths, config.dropout, downsample=step))
        self.mid = ImageMiddle(widths[-1], config.dropout)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, video_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,3,T,H,W) to (B,z_channels,T,H/s,W/s); the cache is not needed."""
        h = self.conv_in(fold_frames(self.patcher(video_BCTHW)))
        for level in self.down:
            h = level(h)
        h = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        return unfold_frames(h, video_BCTHW.shape[0])


class ImageDecoder(nn.Module):
    """The output of ``post_quant_conv`` to frames."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.channels * mult for mult in config.channels_mult]
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = ImageMiddle(widths[-1], config.dropout)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            step = Upsample2d(width) if level >= len(widths) - config.num_spatial_steps else None
            below = widths[min(level + 1, len(widths) - 1)]
            level_widths = [below] + [width] * (config.num_res_blocks + 1)
            self.up.append(ImageLevel(level_widths, config.dropout, upsample=step))
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.patch_channels, 3, padding=1)
        self.unpatcher = HaarUnpatcher(config.patch_size, 2, config.high_band_gain)

    def forward(self, z_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,z_channels,T,H/s,W/s) to (B,3,T,H,W); the cache is not needed."""
        h = self.mid(self.conv_in(fold_frames(z_BCTHW)))
        for level in reversed(self.up):
            h = level(h)
        h = self.conv_out(F.silu(self.norm_out(h)))
        return self.unpatcher(unfold_frames(h, z_BCTHW.shape[0]))
