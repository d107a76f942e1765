"""VGG16 features for perceptual losses, with weights that a pinned package carries.

The asset ``lpips_vgg16`` is a pickle of NumPy arrays. It is read once by an unpickler that can
build arrays and nothing else, and kept beside it as safetensors.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018 (layers, input scaling, heads); Simonyan and Zisserman 2015 (the network).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError
from nemo_cosmos.storage import atomic_path

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class VGG16Features(nn.Module):
    """The five feature maps (relu1_2, 2_2, 3_3, 4_3, 5_3) that LPIPS compares.

    Weights are frozen. Frames may have any size of at least 16 pixels a side.

    Raises:
        AssetError: the weights cannot be had.
    """

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
        self.load_state_dict(load_file(_converted_weights()), strict=True)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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
        """LPIPS distance of two sets of features, (N,); 0 is identical."""
        total = torch.zeros((), device=a[0].device)
        for head, x, y in zip(self.heads, a, b, strict=True):
            difference = (_unit_length(x) - _unit_length(y)).square()
            total = total + head(difference).mean((1, 2, 3))
        return total


def _unit_length(x_NCHW: Tensor) -> Tensor:
    return x_NCHW / (x_NCHW.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _converted_weights() -> Path:
    """The safetensors file, made from the pickle on first use."""
    pickled = asset_path("lpips_vgg16")
    converted = pickled.with_suffix(".safetensors")
    if not converted.exists():
        with atomic_path(converted) as temporary:
            save_file(_rename(read_array_pickle(pickled)), temporary)
    return converted


def _rename(tree: dict[str, Any]) -> dict[str, Tensor]:
    """From nested JAX names and (H,W,I,O) kernels to this module's state dict."""
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


_ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a global name of the pickle up."""
        if (module, name) not in _ALLOWED_GLOBALS:
            raise AssetError(
                f"The weights file asks for '{module}.{name}', which is not part of a NumPy "
                "array. It was not opened further; get the pinned package again."
            )
        return _ALLOWED_GLOBALS[module, name]


def read_array_pickle(path: Path) -> dict[str, Any]:
    """Read a pickle of (nested dictionaries of) NumPy arrays without running any code in it.

    Raises:
        AssetError: it holds anything else, or is damaged.
    """
    try:
        with path.open("rb") as handle:
            return cast(dict[str, Any], _ArrayUnpickler(handle).load())
    except (pickle.UnpicklingError, EOFError) as error:
        raise AssetError(
            f"'{path}' is damaged ({error}). Delete it; it is then fetched again."
        ) from error
