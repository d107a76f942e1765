"""LPIPS (Zhang et al., CVPR 2018), version 0.1 on VGG16: how different two frames look to a person.

The weights of VGG16 and of the linear heads come from a pinned package; there is no substitute for
them. Frames are compared at their own size, as the reference does.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_version
from nemo_cosmos.errors import WrongSizeError
from nemo_cosmos.evaluation.metric import Features, Frames, PairMetric
from nemo_cosmos.platform import by_device, default_device

if TYPE_CHECKING:
    from nemo_cosmos.perception.vgg import VGG16Features

#: VGG16 halves the frames four times.
MIN_SIDE_PX = 16
#: Frames that the network sees at once, on a CPU and on a GPU.
FRAMES_PER_CALL = (2, 32)


def lpips_per_frame(generated_THWC: Frames, truth_THWC: Frames) -> NDArray[np.float64]:
    """LPIPS of each frame, float64 ``(T,)``; 0 for the same, about 1 for unrelated ones.

    Args:
        generated_THWC: uint8 RGB frames.
        truth_THWC: uint8 RGB frames of the same shape.

    Raises:
        WrongSizeError: a side has fewer than 16 pixels.
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    import torch

    if min(truth_THWC.shape[1:3]) < MIN_SIDE_PX:
        raise WrongSizeError(
            f"LPIPS needs frames of at least {MIN_SIDE_PX} pixels a side; these have "
            f"{truth_THWC.shape[1]}x{truth_THWC.shape[2]} (height x width). Leave out the metric "
            "'lpips_vgg', or compare larger frames."
        )
    network, device, step = _network(), default_device(), by_device(*FRAMES_PER_CALL)
    distances = []
    with torch.inference_mode():
        for first in range(0, len(truth_THWC), step):
            both = [
                torch.from_numpy(np.ascontiguousarray(frames[first : first + step]))
                .to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
                for frames in (generated_THWC, truth_THWC)
            ]  # fmt: skip
            distances.append(network.lpips(network(both[0]), network(both[1])).double().cpu())
    return np.asarray(torch.cat(distances).numpy())


@functools.cache
def _network() -> VGG16Features:
    from nemo_cosmos.perception.vgg import load_vgg16_features

    return load_vgg16_features().to(default_device())


LPIPS_VGG = PairMetric(
    name="lpips_vgg",
    higher_is_better=False,
    description="perceptual distance by VGG16, mean over frames; 0 the same",
    is_default=False,
    describe_features=lambda: Features("vgg16 with LPIPS heads", asset_version("lpips_vgg16")),
    per_frame=lpips_per_frame,
)
