"""FID and KID of the frames of two sets of videos, by the Inception network of TensorFlow.

Frames are resized to 299x299 as TensorFlow 1 did it, bytes shifted to ``(x - 128) / 128``, and the
2048 pooled features compared: the protocol of the original FID and of StyleGAN's. "Clean" FIDs,
which smooth while they shrink, and those on torchvision's Inception are other numbers.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_version
from nemo_cosmos.evaluation.metric import Features, Frames, SetMetric
from nemo_cosmos.evaluation.sets.frechet import frechet_distance
from nemo_cosmos.evaluation.sets.kernel import kernel_distance
from nemo_cosmos.platform import by_device, default_device

if TYPE_CHECKING:
    from nemo_cosmos.perception.inception import Inception

NUM_FEATURES = 2048
#: Frames that the network sees at once, on a CPU and on a GPU.
FRAMES_PER_CALL = (8, 64)


def frame_features(frames_THWC: Frames) -> NDArray[np.float32]:
    """Features of each frame, ``(T, 2048)``.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    from nemo_cosmos.perception.inception import inception_features

    return inception_features(frames_THWC, _network(), by_device(*FRAMES_PER_CALL))


@functools.cache
def _network() -> Inception:
    from nemo_cosmos.perception.inception import load_inception

    return load_inception().to(default_device())


def _features() -> Features:
    return Features("inception-2015-12-05, 2048 pooled", asset_version("inception_2015"))


FID_INCEPTION = SetMetric(
    name="fid_inception",
    higher_is_better=False,
    description="Frechet Inception distance of all frames; 0 the same set",
    describe_features=_features,
    frames_per_call=FRAMES_PER_CALL,
    extract=frame_features,
    compare=frechet_distance,
    # With fewer rows the covariance is singular and the distance far too large or small.
    min_rows=NUM_FEATURES + 1,
    fewer_rows="kid_inception",
    num_resamples=20,  # each takes the singular values of a large matrix, some seconds
)

KID_INCEPTION = SetMetric(
    name="kid_inception",
    higher_is_better=False,
    description="kernel Inception distance of all frames, for small sets; about 0 the same set",
    describe_features=_features,
    frames_per_call=FRAMES_PER_CALL,
    extract=frame_features,
    compare=kernel_distance,
    min_rows=50,
)
