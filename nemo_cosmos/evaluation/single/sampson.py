"""Is a video of one rigid scene? How far matched points lie from an epipolar geometry.

A fundamental matrix is fitted to the matches of each two neighbouring frames, whatever the camera
did; see :mod:`nemo_cosmos.evaluation.geometry.epipolar` for the error. The Cosmos paper matched
points with SuperPoint and LightGlue where SIFT does it here: the name says so, and the numbers are
not comparable with published ones.

Shape suffixes: N points, 2 for (x, y).
"""

from __future__ import annotations

import itertools

import numpy as np

from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.geometry.epipolar import (
    MIN_MATCHES,
    fit_fundamental,
    sampson_errors,
    scale_of,
)
from nemo_cosmos.evaluation.geometry.points import Points, describe_sift, find_keypoints, match
from nemo_cosmos.evaluation.metric import Frames, VideoMetric

STILL_PX = 0.25
"""Where points move less than this, there is no epipolar geometry to fit."""


def temporal_sampson_error(frames_THWC: Frames) -> float:
    """Mean over neighbouring frames of the median root Sampson error, in pixels of 960 x 540.

    Pairs of frames between which nothing moves fit any geometry and count as zero.

    Args:
        frames_THWC: uint8 frames.

    Raises:
        VideoError: no pair of frames has enough matches.
    """
    scale = scale_of(frames_THWC.shape[1:3])
    errors = [
        error
        for before, after in itertools.pairwise(find_keypoints(frames_THWC))
        if (error := _pair_error(*match(before, after), scale)) is not None
    ]
    if not errors:
        raise VideoError(
            f"No two neighbouring frames have {MIN_MATCHES} points in common, so that no geometry "
            "can be fitted: the video is too blurred, too small or without texture. Leave the "
            "metric out."
        )
    return float(np.mean(errors))


def _pair_error(first_N2: Points, second_N2: Points, scale: float) -> float | None:
    """Median error of all matches of a pair; None for too few."""
    if len(first_N2) < MIN_MATCHES:
        return None
    first, second = first_N2 * scale, second_N2 * scale
    if np.median(np.linalg.norm(first - second, axis=1)) < STILL_PX:
        return 0.0
    fitted = fit_fundamental(first, second)
    if fitted is None:
        return None
    return float(np.median(sampson_errors(first, second, fitted[0])))


SAMPSON_SIFT = VideoMetric(
    name="sampson_sift",
    unit="px",
    higher_is_better=False,
    description="temporal Sampson error: how far matches lie from one rigid scene; 0 a rigid one",
    compute=temporal_sampson_error,
    describe_features=describe_sift,
    is_default=False,
)
