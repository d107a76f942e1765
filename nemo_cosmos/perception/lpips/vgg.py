"""VGG16 feature maps and the LPIPS distance on them, with weights that a pinned package carries.

Shape suffixes: N frames, C channels, H height, W width.

Source: Simonyan and Zisserman 2015 (the network); :mod:`.network` (LPIPS).
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.perception.lpips.network import LpipsNetwork, load_lpips_network

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16Features(LpipsNetwork):
    """The five feature maps (relu1_2, 2_2, 3_3, 4_3, 5_3) that LPIPS compares."""

    name = "vgg16"
    asset = "lpips_vgg16"
    min_side_px = 16  # it halves the frames four times
    _backbone = "VGG16_0"

    def __init__(self) -> None:
        super().__init__([widths[-1] for widths in _STAGES])
        channels, stages = 3, []
        for widths in _STAGES:
            convs = []
            for width in widths:
                convs.append(nn.Conv2d(channels, width, 3, padding=1))
                channels = width
            stages.append(nn.ModuleList(convs))
        self.stages = nn.ModuleList(stages)

    def feature_maps(self, x_NCHW: Tensor) -> list[Tensor]:
        """Features of frames that are scaled already, finest first."""
        features = []
        for index, stage in enumerate(self.stages):
            if index > 0:
                x_NCHW = F.max_pool2d(x_NCHW, 2)
            for conv in cast(nn.ModuleList, stage):
                x_NCHW = F.relu(conv(x_NCHW))
            features.append(x_NCHW)
        return features

    @classmethod
    def conv_names(cls) -> list[str]:
        """Name of each convolution here, in the order of the asset."""
        return [f"stages.{i}.{j}" for i, widths in enumerate(_STAGES) for j in range(len(widths))]


def load_vgg16_features() -> VGG16Features:
    """The network with the asset's weights, frozen, in evaluation mode.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    return load_lpips_network(VGG16Features)
