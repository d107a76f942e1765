"""Encoder and decoder of the causal video tokenizers (CV, DV).

Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.network.layers3d import (
    CausalSequential,
    FrameNorm,
    HybridDownsample,
    HybridUpsample,
    ResBlock3d,
    SpatialAttention,
    TemporalAttention,
    factorised_conv,
)
from nemo_cosmos.models.tokenizer.network.streaming import CausalCache
from nemo_cosmos.models.tokenizer.network.wavelet import HaarPatcher, HaarUnpatcher


class VideoLevel(nn.Module):
    """The residual blocks of one resolution, and the step to the next where there is one."""

    def __init__(
        self,
        widths: list[int],
        dropout: float,
        downsample: nn.Module | None = None,
        upsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResBlock3d(a, b, dropout) for a, b in pairwise(widths))
        self.downsample, self.upsample = downsample, upsample

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,C,T,H,W) to (B,C',T',H',W')."""
        for block in (*self.block, self.downsample, self.upsample):
            if block is not None:
                x_BCTHW = block(x_BCTHW, cache)
        return x_BCTHW


class VideoMiddle(nn.Module):
    """Residual block, spatial then temporal attention, residual block."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.block_1 = ResBlock3d(channels, channels, dropout)
        self.attn_1 = CausalSequential(SpatialAttention(channels), TemporalAttention(channels))
        self.block_2 = ResBlock3d(channels, channels, dropout)

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,C,T,H,W) to the same shape."""
        return self.block_2(self.attn_1(self.block_1(x_BCTHW, cache), cache), cache)


class VideoEncoder(nn.Module):
    """Frames to the input of ``quant_conv``."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.channels * mult for mult in (1, *config.channels_mult)]
        self.patcher3d = HaarPatcher(config.patch_size, 3, config.high_band_gain)
        self.conv_in = factorised_conv(config.patch_channels, widths[0])
        self.down = nn.ModuleList()
        for level, width in enumerate(widths[1:]):
            spatial, temporal = level < config.num_spatial_steps, level < config.num_temporal_steps
            is_last = level == len(config.channels_mult) - 1
            step = None if is_last else HybridDownsample(width, spatial=spatial, temporal=temporal)
            level_widths = [widths[level]] + [width] * config.num_res_blocks
            self.down.append(VideoLevel(level_widths, config.dropout, downsample=step))
        self.mid = VideoMiddle(widths[-1], config.dropout)
        self.norm_out = FrameNorm(widths[-1])
        self.conv_out = factorised_conv(widths[-1], config.z_channels)

    def forward(self, video_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,3,T,H,W) to (B,z_channels,t,h,w)."""
        patches = self.patcher3d(video_BCTHW, at_start=cache is None or cache.at_start)
        h = self.conv_in(patches, cache)
        for level in self.down:
            h = level(h, cache)
        return self.conv_out(F.silu(self.norm_out(self.mid(h, cache))), cache)


class VideoDecoder(nn.Module):
    """The output of ``post_quant_conv`` to frames."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.channels * mult for mult in config.channels_mult]
        self.conv_in = factorised_conv(config.z_channels, widths[-1])
        self.mid = VideoMiddle(widths[-1], config.dropout)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            spatial, temporal = config.decoder_doubles(depth=len(widths) - 1 - level)
            step = HybridUpsample(width, spatial=spatial, temporal=temporal) if level > 0 else None
            below = widths[min(level + 1, len(widths) - 1)]
            level_widths = [below] + [width] * (config.num_res_blocks + 1)
            self.up.append(VideoLevel(level_widths, config.dropout, upsample=step))
        self.norm_out = FrameNorm(widths[0])
        self.conv_out = factorised_conv(widths[0], config.patch_channels)
        self.unpatcher3d = HaarUnpatcher(config.patch_size, 3, config.high_band_gain)

    def forward(self, z_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,z_channels,t,h,w) to (B,3,T,H,W)."""
        h = self.mid(self.conv_in(z_BCTHW, cache), cache)
        for level in reversed(self.up):
            h = level(h, cache)
        patches = self.conv_out(F.silu(self.norm_out(h)), cache)
        return self.unpatcher3d(patches, at_start=cache is None or cache.at_start)
