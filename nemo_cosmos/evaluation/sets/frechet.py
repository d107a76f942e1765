"""Frechet distance of two sets of videos, between Gaussians fitted to their features.

``|m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2))``, as in FID (Heusel et al. 2017) and FVD. The
features are those of EfficientNet-lite0 on each frame, not Inception's or I3D's, whose weights no
package carries: the number is not comparable with a published FID, and its name says so.

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
    (mean_1, covariance_1), (mean_2, covariance_2) = _gaussian(first_ND), _gaussian(second_ND)
    # The trace of the root of C1 C2 is that of the symmetric R C2 R with R R = C1: its eigenvalues
    # are real and not negative, where a general matrix root would need complex numbers.
    root_1 = _root(covariance_1)
    squares = np.linalg.eigvalsh(root_1 @ covariance_2 @ root_1)
    trace_of_root = np.sqrt(squares.clip(min=0)).sum()
    difference = mean_1 - mean_2
    traces = np.trace(covariance_1) + np.trace(covariance_2)
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
    """Mean ``(D,)`` and sample covariance ``(D, D)``."""
    rows = rows_ND.astype(np.float64)
    if not np.isfinite(rows).all():
        raise NumericsError(
            "A feature of the Frechet distance is NaN or infinite. The weights of the feature "
            "network are damaged; delete them from the cache, and they are fetched again."
        )
    return rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))


def _root(symmetric_DD: NDArray[np.float64]) -> NDArray[np.float64]:
    """The exact root of a positive semidefinite matrix, by its eigenvectors."""
    values, vectors = np.linalg.eigh(symmetric_DD)
    return np.asarray((vectors * np.sqrt(values.clip(min=0))) @ vectors.T)


FRECHET_EFFICIENTNET_LITE0 = SetMetric(
    name="frechet_efficientnet_lite0",
    higher_is_better=False,
    description="Frechet distance of frames by EfficientNet-lite0; 0 the same set",
    describe_features=lambda: Features(EMBEDDED, asset_version("efficientnet_lite0")),
    extract=frame_features,
    compare=frechet_distance,
    # With fewer rows than this the covariance is singular and the distance far too small or large.
    min_rows=NUM_FEATURES + 1,
    num_resamples=20,  # each takes the roots of two large matrices, about a second
)
