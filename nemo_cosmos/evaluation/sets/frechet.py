"""Frechet distance of two sets of videos, between Gaussians fitted to their features.

``|m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2))``, as in FID (Heusel et al. 2017) and FVD, which
:mod:`.inception` and :mod:`.i3d` make of it. Here are also the features of EfficientNet-lite0 on
each frame, a small network: its number is not comparable with a published FID, as its name says.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_version
from nemo_cosmos.errors import NumericsError
from nemo_cosmos.evaluation.metric import Features, Frames, SetMetric
from nemo_cosmos.perception import EMBEDDED
from nemo_cosmos.video import resize_frames

NUM_FEATURES = 1280


def frechet_distance(first_ND: NDArray[np.floating], second_ND: NDArray[np.floating]) -> float:
    """Frechet distance of the Gaussians fitted to two sets of rows; 0 for the same set.

    Args:
        first_ND: rows of features, two or more.
        second_ND: rows of the same features.

    Raises:
        NumericsError: a feature is NaN or infinite.
    """
    (mean_1, root_1), (mean_2, root_2) = _gaussian(first_ND), _gaussian(second_ND)
    # With C = R^T R the trace of the root of C1 C2 is the sum of the singular values of R1 R2^T:
    # exact also where a covariance is singular, and no complex numbers as in a general matrix root.
    trace_of_root = np.linalg.svd(root_1 @ root_2.T, compute_uv=False).sum()
    difference = mean_1 - mean_2
    traces = np.square(root_1).sum() + np.square(root_2).sum()
    return float(difference @ difference + traces - 2 * trace_of_root)


def frame_features(frames_THWC: Frames) -> NDArray[np.float32]:
    """Features of each frame, ``(T, 1280)``.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    from nemo_cosmos.perception.encoders import load_encoder

    encoder = load_encoder(EMBEDDED)
    return encoder.encode(resize_frames(frames_THWC, encoder.image_size))


def _gaussian(rows_ND: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean ``(D,)``, and R of at most D rows, of which ``R^T R`` is the sample covariance."""
    rows = rows_ND.astype(np.float64)
    if not np.isfinite(rows).all():
        raise NumericsError(
            "A feature of the Frechet distance is NaN or infinite. The weights of the feature "
            "network are damaged; delete them from the cache, and they are fetched again."
        )
    mean_D = rows.mean(axis=0)
    centred = (rows - mean_D) / np.sqrt(len(rows) - 1)
    if len(centred) > centred.shape[1]:
        centred = np.linalg.qr(centred, mode="r")
    return mean_D, centred


FRECHET_EFFICIENTNET_LITE0 = SetMetric(
    name="frechet_efficientnet_lite0",
    higher_is_better=False,
    description="Frechet distance of frames by EfficientNet-lite0; 0 the same set",
    describe_features=lambda: Features(EMBEDDED, asset_version("efficientnet_lite0")),
    extract=frame_features,
    compare=frechet_distance,
    # With fewer rows than this the covariance is singular and the distance far too small or large.
    min_rows=NUM_FEATURES + 1,
    num_resamples=20,  # each takes the singular values of a large matrix, about a second
)
