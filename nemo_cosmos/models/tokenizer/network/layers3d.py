"""Causal layers of the video tokenizers.

Every 3D convolution of the family is factorised into one over space (1,3,3) and one over time
(3,1,1). Activations are (B,C,T,H,W) tensors kept channels-last in memory, so that the spatial
convolution is a 2D convolution on (B*T,C,H,W) and the temporal one a 2D convolution on
(B,C,T,H*W), both without a copy. On a CPU this is several times faster than conv3d.

A layer that looks back in time takes an optional :class:`CausalCache`, which holds the frames that
it saw in earlier chunks; without one, the tensor is the whole video.

Shape suffixes: B batch, N batch * frames, C channels, T frames, H height, W width.
Source: public Cosmos-Tokenizer ``modules/layers3d.py`` (names, order of operations).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.models.tokenizer.network.streaming import CausalCache
from nemo_cosmos.platform import kernels


def fold_frames(x_BCTHW: Tensor) -> Tensor:
    """Make every frame a batch entry: (B*T,C,H,W), a view of channels-last memory."""
    B, C, T, H, W = x_BCTHW.shape
    return x_BCTHW.transpose(1, 2).reshape(B * T, C, H, W)


def unfold_frames(x_NCHW: Tensor, batch_size: int) -> Tensor:
    """Undo :func:`fold_frames`."""
    return x_NCHW.unflatten(0, (batch_size, -1)).transpose(1, 2)


def concat_frames(*parts_BCTHW: Tensor) -> Tensor:
    """Concatenate along time and stay channels-last."""
    joined_BTHWC = torch.cat([part.permute(0, 2, 3, 4, 1) for part in parts_BCTHW], dim=1)
    return joined_BTHWC.permute(0, 4, 1, 2, 3)


class SpatialConv(nn.Module):
    """Per-frame convolution with a square kernel; stride 2 pads below and to the right."""

    def __init__(self, in_channels: int, out_channels: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, (1, size, size), (1, stride, stride))
        self.size, self.stride = size, stride
        self.padding = size // 2 if stride == 1 else 0

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """Convolve each frame; the cache is not needed."""
        if self.size == 1:
            x_BTHWC = x_BCTHW.permute(0, 2, 3, 4, 1)
            y_BTHWC = F.linear(x_BTHWC, self.conv3d.weight.flatten(1), self.conv3d.bias)
            return y_BTHWC.permute(0, 4, 1, 2, 3)
        x_NCHW = fold_frames(x_BCTHW)
        if self.stride == 2:
            x_NCHW = F.pad(x_NCHW, (0, 1, 0, 1))
        weight, bias = self.conv3d.weight.squeeze(2), self.conv3d.bias
        y_NCHW = F.conv2d(x_NCHW, weight, bias, self.stride, self.padding)
        return unfold_frames(y_NCHW, x_BCTHW.shape[0])


class TemporalConv(nn.Module):
    """Per-pixel convolution over three frames, the present and two past ones.

    At the start of a video the past is frame 0 repeated. With stride 2 the caller has already put
    one repeat in front, and only one more is needed.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, channels, (3, 1, 1), (stride, 1, 1))
        self.stride = stride
        self.num_past = 3 - stride

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """Convolve along time, (B,C,T,H,W) to (B,C,T/stride,H,W)."""
        H, W = x_BCTHW.shape[-2:]
        if cache is None or cache.at_start:
            past = [x_BCTHW[:, :, :1]] * self.num_past
        else:
            past = [cache.recall(self)]
        x_BCTHW = concat_frames(*past, x_BCTHW)
        if cache is not None:
            cache.keep(self, x_BCTHW[:, :, -self.num_past :])
        weight, bias = self.conv3d.weight.squeeze(-1), self.conv3d.bias
        y = F.conv2d(x_BCTHW.flatten(3), weight, bias, (self.stride, 1))
        return y.unflatten(3, (H, W))


class CausalSequential(nn.Sequential):
    """A chain whose members all take ``(x, cache)``."""

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """Run the chain."""
        for layer in self:
            x_BCTHW = layer(x_BCTHW, cache)
        return x_BCTHW


def factorised_conv(in_channels: int, out_channels: int) -> CausalSequential:
    """A causal 3x3x3 convolution as space, then time."""
    return CausalSequential(SpatialConv(in_channels, out_channels), TemporalConv(out_channels))


class FrameNorm(nn.Module):
    """Group normalisation with one group over each frame alone, so that it is causal."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=1e-6)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Normalise over (C,H,W) of each frame."""
        return unfold_frames(self.norm(fold_frames(x_BCTHW)), x_BCTHW.shape[0])


class ResBlock3d(nn.Module):
    """Norm, SiLU, convolution, twice, beside a 1x1x1 shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = FrameNorm(in_channels)
        self.conv1 = factorised_conv(in_channels, out_channels)
        self.norm2 = FrameNorm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = factorised_conv(out_channels, out_channels)
        widens = in_channels != out_channels
        self.nin_shortcut = SpatialConv(in_channels, out_channels, size=1) if widens else None

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,C,T,H,W) to (B,C',T,H,W)."""
        h = self.conv1(F.silu(self.norm1(x_BCTHW)), cache)
        h = self.conv2(self.dropout(F.silu(self.norm2(h))), cache)
        return h + (x_BCTHW if self.nin_shortcut is None else self.nin_shortcut(x_BCTHW))


class _Attention(nn.Module):
    """Projections that spatial and temporal attention share; one head of the full width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = FrameNorm(channels)
        self.q = SpatialConv(channels, channels, size=1)
        self.k = SpatialConv(channels, channels, size=1)
        self.v = SpatialConv(channels, channels, size=1)
        self.proj_out = SpatialConv(channels, channels, size=1)


class SpatialAttention(_Attention):
    """Every pixel of a frame attends to all pixels of that frame."""

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,C,T,H,W) to the same shape; the cache is not needed."""
        H, W = x_BCTHW.shape[-2:]
        h = self.norm(x_BCTHW)
        # (B,C,T,H,W) -> (B,T,H*W,C): frames take the place of heads
        q, k, v = (p(h).permute(0, 2, 3, 4, 1).flatten(2, 3) for p in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v)
        out_BCTHW = out.unflatten(2, (H, W)).permute(0, 4, 1, 2, 3)
        return x_BCTHW + self.proj_out(out_BCTHW)


class TemporalAttention(_Attention):
    """Every pixel attends to the same pixel in this frame and all earlier ones."""

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,C,T,H,W) to the same shape; the cache holds keys and values of earlier frames."""
        H, W = x_BCTHW.shape[-2:]
        h = self.norm(x_BCTHW)
        # (B,C,T,H,W) -> (B,H*W,T,C): pixels take the place of heads
        q, k, v = (
            p(h).permute(0, 3, 4, 2, 1).flatten(1, 2).contiguous() for p in (self.q, self.k, self.v)
        )
        if cache is not None:
            k, v = cache.extend_attention(self, k, v)
        num_queries, num_keys = q.shape[2], k.shape[2]
        mask = torch.ones(num_queries, num_keys, dtype=torch.bool, device=q.device)
        mask = mask.tril(num_keys - num_queries)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out_BCTHW = out.unflatten(1, (H, W)).permute(0, 4, 3, 1, 2)
        return x_BCTHW + self.proj_out(out_BCTHW)


class HybridDownsample(nn.Module):
    """Halve space, then time, each by a strided convolution plus an average pool.

    Levels that halve neither keep this module, empty, for the reference's structure.
    """

    def __init__(self, channels: int, *, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.conv1 = SpatialConv(channels, channels, stride=2) if spatial else None
        self.conv2 = TemporalConv(channels, stride=2) if temporal else None
        self.conv3 = SpatialConv(channels, channels, size=1) if spatial or temporal else None

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,C,T,H,W) to (B,C,T',H',W'), where 1 + 2n frames become 1 + n at the start."""
        if self.conv1 is not None:
            pooled_NCHW = F.avg_pool2d(fold_frames(x_BCTHW), 2)
            x_BCTHW = self.conv1(x_BCTHW) + unfold_frames(pooled_NCHW, x_BCTHW.shape[0])
        if self.conv2 is not None:
            if cache is None or cache.at_start:
                x_BCTHW = concat_frames(x_BCTHW[:, :, :1], x_BCTHW)
            pooled_BCTHW = (x_BCTHW[:, :, ::2] + x_BCTHW[:, :, 1::2]) / 2
            x_BCTHW = self.conv2(x_BCTHW, cache) + pooled_BCTHW
        return x_BCTHW if self.conv3 is None else self.conv3(x_BCTHW)


class HybridUpsample(nn.Module):
    """Double time, then space, each by repetition plus a convolution of the repeated.

    Levels that double neither keep this module, empty, for the reference's structure.
    """

    def __init__(self, channels: int, *, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.conv1 = TemporalConv(channels) if temporal else None
        self.conv2 = SpatialConv(channels, channels) if spatial else None
        self.conv3 = SpatialConv(channels, channels, size=1) if spatial or temporal else None

    def forward(self, x_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B,C,T,H,W) to (B,C,T',2H,2W), where 1 + n frames become 1 + 2n at the start."""
        if self.conv1 is not None:
            doubled_BTHWC = x_BCTHW.permute(0, 2, 3, 4, 1).repeat_interleave(2, dim=1)
            if cache is None or cache.at_start:
                doubled_BTHWC = doubled_BTHWC[:, 1:]
            x_BCTHW = doubled_BTHWC.permute(0, 4, 1, 2, 3)
            x_BCTHW = self.conv1(x_BCTHW, cache) + x_BCTHW
        if self.conv2 is not None:
            x_NCHW, conv = fold_frames(x_BCTHW), self.conv2.conv3d
            doubled_NCHW = F.interpolate(x_NCHW, scale_factor=2, mode="nearest")
            y_NCHW = kernels.conv_of_doubled(x_NCHW, conv.weight.squeeze(2), conv.bias)
            x_BCTHW = unfold_frames(y_NCHW + doubled_NCHW, x_BCTHW.shape[0])
        return x_BCTHW if self.conv3 is None else self.conv3(x_BCTHW)
