"""Does the picture move as the given camera does? No depth and no reconstruction is needed.

A point of one frame must lie on a line in another that the two cameras alone decide. The error is
the median distance of SIFT's matches from those lines, so it works for clips of two frames and for
a camera that only turns. It cannot see a wrong speed along the right path: without depth, how far a
camera went does not show.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import fit_camera
from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.geometry.epipolar import MIN_MATCHES, Lens, given_errors
from nemo_cosmos.evaluation.geometry.points import (
    Points,
    describe_sift,
    fill_gaps,
    find_keypoints,
    match,
)
from nemo_cosmos.evaluation.metric import Case, CaseMetric

NUM_BACK = 8
"""Frames that a frame is compared across; between neighbours a wrong turn hardly shows."""


def given_camera_errors(case: Case) -> NDArray[np.float64]:
    """Median root Sampson error under the given cameras, of each frame, ``(T,)`` in pixels.

    Each frame is compared with the one :data:`NUM_BACK` before it, or with the first.

    Args:
        case: a video with the signal ``camera``.

    Raises:
        VideoError: it is a single frame, or most frames have too few points in common with others.
    """
    num_frames = len(case.generated_THWC)
    if num_frames < 2:
        raise VideoError(
            f"'{case.name}' has a single frame, between which and no other a camera moves. Leave "
            "the metric out."
        )
    camera = fit_camera(case.recorded["camera"], case.generated_THWC.shape[1:3])
    lenses = [Lens(camera, frame) for frame in range(num_frames)]
    keypoints = find_keypoints(case.generated_THWC)
    curve_T = np.full(num_frames, np.nan)
    for frame in range(1, num_frames):
        before = max(0, frame - NUM_BACK)
        curve_T[frame] = _median_error(
            lenses[before], lenses[frame], *match(keypoints[before], keypoints[frame])
        )
    if np.isnan(curve_T[1:]).mean() > 0.5:
        raise VideoError(
            f"Most frames of '{case.name}' have fewer than {MIN_MATCHES} points in common with "
            f"those {NUM_BACK} before: the video is too blurred, too small or without texture. "
            "Leave the metric out."
        )
    return fill_gaps(curve_T)


def _median_error(first: Lens, second: Lens, first_N2: Points, second_N2: Points) -> float:
    """Median over the matches of two frames; NaN for too few."""
    first_N2, is_shown_N = first.move(first_N2)
    second_N2, is_shown_too_N = second.move(second_N2)
    both_N = is_shown_N & is_shown_too_N
    if both_N.sum() < MIN_MATCHES:
        return float("nan")
    return float(np.median(given_errors(first, second, first_N2[both_N], second_N2[both_N])))


GIVEN_CAMERA_SAMPSON_SIFT = CaseMetric(
    name="given_camera_sampson_sift",
    unit="px",
    higher_is_better=False,
    description="how far matches lie from the epipolar lines of the given camera path",
    needs=frozenset({"camera"}),
    per_frame=given_camera_errors,
    describe_features=describe_sift,
)
