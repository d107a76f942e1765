"""LPIPS (Zhang et al., CVPR 2018), version 0.1: how different two frames look to a person.

On VGG16 (the one that tokenizers report) and on AlexNet (the authors' choice for comparing
pictures, and twenty times faster). The weights come from a pinned package; there is no substitute
for them. Frames are compared at their own size, as the reference does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_version
from nemo_cosmos.errors import WrongSizeError
from nemo_cosmos.evaluation.metric import Features, Frames, PairMetric
from nemo_cosmos.platform import by_device, default_device

if TYPE_CHECKING:
    from nemo_cosmos.perception.lpips.network import LpipsNetwork

NetworkName = Literal["vgg16", "alexnet"]
#: Frames that the network sees at once, on a CPU and on a GPU.
FRAMES_PER_CALL = (2, 32)


def lpips_per_frame(
    generated_THWC: Frames, truth_THWC: Frames, network: NetworkName = "vgg16"
) -> NDArray[np.float64]:
    """LPIPS of each frame, float64 ``(T,)``; 0 for the same, about 1 for unrelated ones.

    Args:
        generated_THWC: uint8 RGB frames.
        truth_THWC: uint8 RGB frames of the same shape.
        network: the network whose features are compared.

    Raises:
        WrongSizeError: a side has fewer than 16 pixels (VGG16) or 31 (AlexNet).
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    import torch

    net, device, step = _network(network), default_device(), by_device(*FRAMES_PER_CALL)
    if min(truth_THWC.shape[1:3]) < net.min_side_px:
        raise WrongSizeError(
            f"LPIPS on {network} needs frames of at least {net.min_side_px} pixels a side; these "
            f"have {truth_THWC.shape[1]}x{truth_THWC.shape[2]} (height x width). Leave the metric "
            "out, or compare larger frames."
        )
    distances = []
    with torch.inference_mode():
        for first in range(0, len(truth_THWC), step):
            both = [
                torch.from_numpy(np.ascontiguousarray(frames[first : first + step]))
                .to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
                for frames in (generated_THWC, truth_THWC)
            ]  # fmt: skip
            distances.append(net.lpips(net(both[0]), net(both[1])).double().cpu())
    return np.asarray(torch.cat(distances).numpy())


@functools.cache
def _network(name: NetworkName) -> LpipsNetwork:
    from nemo_cosmos.perception.lpips.alex import load_alexnet_features
    from nemo_cosmos.perception.lpips.vgg import load_vgg16_features

    loaders: dict[NetworkName, Callable[[], LpipsNetwork]] = {
        "vgg16": load_vgg16_features,
        "alexnet": load_alexnet_features,
    }
    return loaders[name]().to(default_device())


LPIPS_VGG = PairMetric(
    name="lpips_vgg",
    higher_is_better=False,
    description="perceptual distance by VGG16, mean over frames; 0 the same",
    is_default=False,
    describe_features=lambda: Features("vgg16 with LPIPS heads", asset_version("lpips_vgg16")),
    frames_per_call=FRAMES_PER_CALL,
    per_frame=lpips_per_frame,
)

LPIPS_ALEX = PairMetric(
    name="lpips_alex",
    higher_is_better=False,
    description="perceptual distance by AlexNet, mean over frames; 0 the same",
    is_default=False,
    describe_features=lambda: Features("alexnet with LPIPS heads", asset_version("lpips_alexnet")),
    frames_per_call=FRAMES_PER_CALL,
    per_frame=functools.partial(lpips_per_frame, network="alexnet"),
)
