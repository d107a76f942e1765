"""Layers of the image tokenizers: plain convolutions on (N,C,H,W), channels-last in memory.

Shape suffixes: N batch * frames, C channels, H height, W width.
Source: public Cosmos-Tokenizer ``modules/layers2d.py`` (names, order of operations).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_NUM_GROUPS = 32


def group_norm(channels: int) -> nn.GroupNorm:
    """The normalisation of the image networks."""
    return nn.GroupNorm(_NUM_GROUPS, channels, eps=1e-6)


class ResBlock2d(nn.Module):
    """Norm, SiLU, convolution, twice, beside a 1x1 shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        widens = in_channels != out_channels
        self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1) if widens else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N,C,H,W) to (N,C',H,W)."""
        h = self.conv1(F.silu(self.norm1(x_NCHW)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + (x_NCHW if self.nin_shortcut is None else self.nin_shortcut(x_NCHW))


class Attention2d(nn.Module):
    """Every pixel attends to all pixels; one head of the full width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N,C,H,W) to the same shape."""
        h = self.norm(x_NCHW)
        # (N,C,H,W) -> (N,1,H*W,C)
        q, k, v = (p(h).flatten(2).transpose(1, 2).unsqueeze(1) for p in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2)
        return x_NCHW + self.proj_out(out.unflatten(2, x_NCHW.shape[-2:]))


class Downsample2d(nn.Module):
    """Halve both sides by a strided convolution that pads below and to the right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N,C,H,W) to (N,C,H/2,W/2)."""
        return self.conv(F.pad(x_NCHW, (0, 1, 0, 1)))


class Upsample2d(nn.Module):
    """Double both sides by repetition, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N,C,H,W) to (N,C,2H,2W)."""
        return self.conv(F.interpolate(x_NCHW, scale_factor=2, mode="nearest"))
