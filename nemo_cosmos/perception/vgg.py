"""VGG16 feature maps and the LPIPS distance, with weights that a pinned package carries.

The asset ``lpips_vgg16`` is a pickle of NumPy arrays: VGG16 trained on ImageNet, and LPIPS' linear
heads. It is read once by an unpickler that can build arrays and nothing else, and kept beside the
pickle as safetensors.

Shape suffixes: N frames, C channels, H height, W width, I and O channels of a kernel.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018 (layers, input scaling, heads); Simonyan and Zisserman 2015 (the network).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nemo_cosmos.assets import asset_path, asset_version
from nemo_cosmos.perception.weights import read_array_pickle
from nemo_cosmos.storage import atomic_path

ASSET = "lpips_vgg16"
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
#: LPIPS' own scaling of inputs in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class VGG16Features(nn.Module):
    """The five feature maps (relu1_2, 2_2, 3_3, 4_3, 5_3) that LPIPS compares.

    Frames may have any size of at least 16 pixels a side. The network is built with arbitrary
    weights; :func:`load_vgg16_features` gives it those of the asset.
    """

    name = "vgg16"
    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        channels, stages, heads = 3, [], []
        for widths in _STAGES:
            convs = []
            for width in widths:
                convs.append(nn.Conv2d(channels, width, 3, padding=1))
                channels = width
            stages.append(nn.ModuleList(convs))
            heads.append(nn.Conv2d(channels, 1, 1, bias=False))
        self.stages, self.heads = nn.ModuleList(stages), nn.ModuleList(heads)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    @property
    def version(self) -> str:
        """The exact weights that :func:`load_vgg16_features` reads."""
        return asset_version(ASSET)

    def forward(self, frames_NCHW: Tensor) -> list[Tensor]:
        """Features of RGB frames in [-1, 1], finest first."""
        x = (frames_NCHW - self.shift) / self.scale
        features = []
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = F.max_pool2d(x, 2)
            for conv in cast(nn.ModuleList, stage):
                x = F.relu(conv(x))
            features.append(x)
        return features

    def lpips(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS distance (version 0.1) of two sets of features, ``(N,)``; 0 is identical."""
        total = torch.zeros((), device=a[0].device)
        for head, x, y in zip(self.heads, a, b, strict=True):
            difference = (_unit_length(x) - _unit_length(y)).square()
            total = total + head(difference).mean((1, 2, 3))
        return total


def load_vgg16_features() -> VGG16Features:
    """The network with the asset's weights, frozen, in evaluation mode.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    network = VGG16Features()
    network.load_state_dict(load_file(_converted_weights()), strict=True)
    network.requires_grad_(False).eval()
    # Convolutions of this size are faster with channels last, on CPUs and GPUs alike.
    return cast(VGG16Features, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def _unit_length(x_NCHW: Tensor) -> Tensor:
    return x_NCHW / (x_NCHW.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _converted_weights() -> Path:
    """The safetensors file, made from the pickle on first use."""
    pickled = asset_path(ASSET)
    converted = pickled.with_suffix(".safetensors")
    if not converted.exists():
        with atomic_path(converted) as temporary:
            save_file(_rename(read_array_pickle(pickled)), temporary)
    return converted


def _rename(tree: dict[str, Any]) -> dict[str, Tensor]:
    """From nested JAX names and (H,W,I,O) kernels to the state dictionary of this network."""
    state: dict[str, Tensor] = {}
    names = [f"stages.{i}.{j}" for i, widths in enumerate(_STAGES) for j in range(len(widths))]
    for index, name in enumerate(names):
        layer = tree["VGG16_0"][f"Conv_{index}"]
        state[f"{name}.weight"] = _kernel(layer["kernel"])
        state[f"{name}.bias"] = torch.from_numpy(layer["bias"].copy())
    for index in range(len(_STAGES)):
        state[f"heads.{index}.weight"] = _kernel(tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"])
    return state


def _kernel(kernel_HWIO: np.ndarray) -> Tensor:
    return torch.from_numpy(kernel_HWIO.transpose(3, 2, 0, 1).copy())
