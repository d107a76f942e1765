"""Is a video of one rigid scene? How far matched points lie from an epipolar geometry.

Between two frames of a still scene, matched points x and x' satisfy ``x'^T F x = 0`` for some
fundamental matrix F, whatever the camera did. The Sampson error is the first-order distance to
that: ``e = (x'^T F x)^2 / ((Fx)_1^2 + (Fx)_2^2 + (F^T x')_1^2 + (F^T x')_2^2)`` (Hartley and
Zisserman, 2003, equation 11.9); its root is in pixels. F is fitted by RANSAC and eight points, and
pixels are those of a picture of 960 x 540, so that sizes can be compared. Matches are SIFT's
(Lowe, 2004) with the ratio test, where the Cosmos paper used SuperPoint and LightGlue: the name
says so, and the numbers are not comparable with published ones.

Shape suffixes: N points, 2 for (x, y).
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.metric import Features, Frames, VideoMetric

DIAGONAL_PX = float(np.hypot(960, 540))
"""Length of the diagonal in whose pixels errors are given."""
MAX_POINTS = 2048
RATIO = 0.8
"""Lowe's: the second-best match must be this much worse."""
MIN_MATCHES = 16
"""With fewer an F fits almost anything."""
RANSAC_PX = 1.0
_RANSAC_SEED = 0
STILL_PX = 0.25
"""Where points move less than this, there is no epipolar geometry to fit."""


def sampson_errors(
    first_N2: NDArray[np.float64], second_N2: NDArray[np.float64], matrix_33: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Root of the Sampson error of each match, ``(N,)``, in the points' unit.

    Args:
        first_N2: points x in the first picture.
        second_N2: the matched points x' in the second.
        matrix_33: the fundamental matrix F with ``x'^T F x = 0``.
    """
    first, second = (np.c_[points, np.ones(len(points))] for points in (first_N2, second_N2))
    lines, back = first @ matrix_33.T, second @ matrix_33
    algebraic = (second * lines).sum(axis=1)
    slope = (lines[:, :2] ** 2).sum(axis=1) + (back[:, :2] ** 2).sum(axis=1)
    return np.asarray(np.abs(algebraic) / np.sqrt(np.maximum(slope, 1e-12)))


def temporal_sampson_error(frames_THWC: Frames) -> float:
    """Mean over neighbouring frames of the median root Sampson error, in pixels of 960 x 540.

    Pairs of frames between which nothing moves fit any geometry and count as zero.

    Args:
        frames_THWC: uint8 frames.

    Raises:
        VideoError: no pair of frames has enough matches.
    """
    scale = DIAGONAL_PX / float(np.hypot(*frames_THWC.shape[1:3]))
    sift = cv2.SIFT.create(nfeatures=MAX_POINTS)
    found = [_points(sift, frame) for frame in frames_THWC]
    errors = [
        error
        for before, after in itertools.pairwise(found)
        if (error := _pair_error(*_matched(before, after), scale)) is not None
    ]
    if not errors:
        raise VideoError(
            f"No two neighbouring frames have {MIN_MATCHES} points in common, so that no geometry "
            "can be fitted: the video is too blurred, too small or without texture. Leave the "
            "metric out."
        )
    return float(np.mean(errors))


Points = tuple[NDArray[np.float64], "NDArray[np.float32] | None"]


def _points(sift: cv2.SIFT, frame_HWC: Frames) -> Points:
    """Places ``(N,2)`` and descriptors of a frame's points."""
    grey = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    points, descriptors = sift.detectAndCompute(grey, None)
    places = np.array([point.pt for point in points], np.float64).reshape(-1, 2)
    return places, descriptors


def _matched(before: Points, after: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matches whose second-best is clearly worse."""
    nothing = np.zeros((0, 2))
    if before[1] is None or after[1] is None or min(len(before[1]), len(after[1])) < 2:
        return nothing, nothing
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(before[1], after[1], k=2)
    good = [best for best, second in pairs if best.distance < RATIO * second.distance]
    first = before[0][[match.queryIdx for match in good]].reshape(-1, 2)
    return first, after[0][[match.trainIdx for match in good]].reshape(-1, 2)


def _pair_error(
    first_N2: NDArray[np.float64], second_N2: NDArray[np.float64], scale: float
) -> float | None:
    """Median error of all matches of a pair; None for too few."""
    if len(first_N2) < MIN_MATCHES:
        return None
    first, second = first_N2 * scale, second_N2 * scale
    if np.median(np.linalg.norm(first - second, axis=1)) < STILL_PX:
        return 0.0
    cv2.setRNGSeed(_RANSAC_SEED)  # the same video gives the same number
    matrix_33, _ = cv2.findFundamentalMat(first, second, cv2.FM_RANSAC, RANSAC_PX, 0.999)
    if matrix_33 is None or matrix_33.shape != (3, 3):
        return None
    return float(np.median(sampson_errors(first, second, matrix_33)))


SAMPSON_SIFT = VideoMetric(
    name="sampson_sift",
    unit="px",
    higher_is_better=False,
    description="temporal Sampson error: how far matches lie from one rigid scene; 0 a rigid one",
    compute=temporal_sampson_error,
    describe_features=lambda: Features("SIFT", f"OpenCV {cv2.__version__}"),
    is_default=False,
)
