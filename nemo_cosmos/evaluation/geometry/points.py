"""Points that two pictures have in common: SIFT (Lowe, 2004) with the ratio test.

Coordinates are those of the whole house: pixels from the picture's upper left corner, so that the
middle of the first pixel is (0.5, 0.5).

Shape suffixes: N points, 2 for (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.evaluation.geometry.kept import LastResults
from nemo_cosmos.evaluation.metric import Features, Frames

DIAGONAL_PX = float(np.hypot(960, 540))
"""Length of the diagonal in whose pixels errors are given, so that sizes can be compared."""
MAX_POINTS = 2048
RATIO = 0.8
"""Lowe's: the second-best match must be this much worse."""

Points = NDArray[np.float64]

_MAX_KEPT = 1024
"""Frames whose points are kept, a quarter of a megabyte each at most."""


@dataclass(frozen=True)
class Keypoints:
    """What can be found again of a picture.

    Attributes:
        points_N2: places in pixels.
        descriptors_ND: what each looks like, uint8; None where there is no point.
    """

    points_N2: Points
    descriptors_ND: NDArray[np.uint8] | None


_kept: LastResults[Keypoints] = LastResults(_MAX_KEPT)


def describe_sift() -> Features:
    """The detector and its exact version."""
    return Features("SIFT", f"OpenCV {cv2.__version__}")


def find_keypoints(frames_THWC: Frames) -> list[Keypoints]:
    """The points of each frame.

    Several metrics look for those of the same frames, so the last ones are kept.

    Args:
        frames_THWC: uint8 RGB frames.
    """
    found = []
    for frame_HWC in frames_THWC:
        about = (frame_HWC.tobytes(), str(frame_HWC.shape).encode())
        found.append(_kept.get(about, partial(_detect, frame_HWC)))
    return found


def _detect(frame_HWC: Frames) -> Keypoints:
    grey = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT.create(nfeatures=MAX_POINTS)
    points, descriptors = sift.detectAndCompute(grey, None)
    places = np.array([point.pt for point in points], np.float64).reshape(-1, 2)
    # SIFT's numbers are whole ones up to 255. OpenCV counts pixels from their middle.
    return Keypoints(places + 0.5, None if descriptors is None else descriptors.astype(np.uint8))


def match(first: Keypoints, second: Keypoints, *, is_mutual: bool = False) -> tuple[Points, Points]:
    """Places of the same point in two pictures, ``(N, 2)`` each.

    Args:
        first: points of one picture.
        second: points of the other.
        is_mutual: whether a match must be the best in both directions. Pictures of cameras that
            share little need it: what the other does not see finds some partner, too.
    """
    nothing = np.zeros((0, 2))
    both = first.descriptors_ND, second.descriptors_ND
    if both[0] is None or both[1] is None or min(len(both[0]), len(both[1])) < 2:
        return nothing, nothing
    pairs = _clearly_best(both[0], both[1])
    if is_mutual:
        back = {(there, here) for here, there in _clearly_best(both[1], both[0])}
        pairs = [pair for pair in pairs if pair in back]
    indices_N2 = np.array(pairs, np.intp).reshape(-1, 2)
    return first.points_N2[indices_N2[:, 0]], second.points_N2[indices_N2[:, 1]]


def _clearly_best(
    first_ND: NDArray[np.uint8], second_ND: NDArray[np.uint8]
) -> list[tuple[int, int]]:
    """Rows whose nearest neighbour is much nearer than the second."""
    found = cv2.BFMatcher(cv2.NORM_L2).knnMatch(first_ND, second_ND, k=2)
    return [(a.queryIdx, a.trainIdx) for a, b in found if a.distance < RATIO * b.distance]


def fill_gaps(curve_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve with the frames that have no number (NaN) filled from their neighbours."""
    is_known_T = np.isfinite(curve_T)
    frames_T = np.arange(len(curve_T))
    return np.interp(frames_T, frames_T[is_known_T], curve_T[is_known_T])
