"""Cosine of the features of two frames: whether they show the same things, whatever the pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_version
from nemo_cosmos.evaluation.metric import Features, Frames, PairMetric
from nemo_cosmos.evaluation.sets.frechet import frame_features
from nemo_cosmos.perception import EMBEDDED


def feature_similarity_per_frame(generated_THWC: Frames, truth_THWC: Frames) -> NDArray[np.float64]:
    """Cosine of EfficientNet-lite0's features of each pair of frames, float64 ``(T,)``.

    Args:
        generated_THWC: uint8 RGB frames.
        truth_THWC: uint8 RGB frames of the same shape.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    one_TD, other_TD = (
        frame_features(frames_THWC).astype(np.float64)
        for frames_THWC in (generated_THWC, truth_THWC)
    )
    lengths_T = np.linalg.norm(one_TD, axis=1) * np.linalg.norm(other_TD, axis=1)
    return np.asarray((one_TD * other_TD).sum(1) / np.maximum(lengths_T, 1e-12))


FEATURE_SIMILARITY_EFFICIENTNET_LITE0 = PairMetric(
    name="feature_similarity_efficientnet_lite0",
    higher_is_better=True,
    description="cosine of the frames' EfficientNet-lite0 features, mean over frames; 1 the same",
    is_default=False,
    describe_features=lambda: Features(EMBEDDED, asset_version("efficientnet_lite0")),
    per_frame=feature_similarity_per_frame,
)
