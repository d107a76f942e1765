"""AlexNet feature maps and the LPIPS distance on them, with weights that a pinned package carries.

Shape suffixes: N frames, C channels, H height, W width.

Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014 (the
network, one column); :mod:`.network` (LPIPS).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.perception.lpips.network import LpipsNetwork, load_lpips_network

#: Channels, kernel, stride and padding of each convolution.
_CONVS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
#: Convolutions that see a pooled map.
_AFTER_POOL = (1, 2)


class AlexNetFeatures(LpipsNetwork):
    """The five feature maps (relu1 to relu5) that LPIPS compares."""

    name = "alexnet"
    asset = "lpips_alexnet"
    min_side_px = 31  # a first map of 7, then 3, then 1 pixel
    _backbone = "AlexNet_0"

    def __init__(self) -> None:
        super().__init__([width for width, *_ in _CONVS])
        channels, convs = 3, []
        for width, kernel, stride, padding in _CONVS:
            convs.append(nn.Conv2d(channels, width, kernel, stride, padding))
            channels = width
        self.convs = nn.ModuleList(convs)

    def feature_maps(self, x_NCHW: Tensor) -> list[Tensor]:
        """Features of frames that are scaled already, finest first."""
        features = []
        for index, conv in enumerate(self.convs):
            if index in _AFTER_POOL:
                x_NCHW = F.max_pool2d(x_NCHW, 3, 2)
            x_NCHW = F.relu(conv(x_NCHW))
            features.append(x_NCHW)
        return features

    @classmethod
    def conv_names(cls) -> list[str]:
        """Name of each convolution here, in the order of the asset."""
        return [f"convs.{index}" for index in range(len(_CONVS))]


def load_alexnet_features() -> AlexNetFeatures:
    """The network with the asset's weights, frozen, in evaluation mode.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    return load_lpips_network(AlexNetFeatures)
