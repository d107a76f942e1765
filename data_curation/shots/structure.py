"""Whether a scene goes on through what looked like a change of shot: do its corners stay?

Shadows of trees, a lens flare or the end of a tunnel change colours and light as much as another
shot does, but the corners of what is seen stay where they are, or go on as the camera moves.
Corners of the frame before are followed from frame to frame (Lucas-Kanade) on pictures whose light
is evened out; in another shot they are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from data_curation.shots.transition import Transition
from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import FrameIndex, Source, decode, fitted_size

#: Longer side of the pictures, and corners that are followed.
LONGEST_PX, _MAX_CORNERS = 256, 240
#: The picture is judged by the fields of this grid, so that a logo in one of them decides nothing.
_GRID = (4, 6)
#: A field counts when it has so many corners, and it stays when this share of them does.
_LEAST_CORNERS, _STAYING = 3, 0.4
#: Share of the fields that stay from which it is the same scene, and how many must count.
SAME_SCENE, _LEAST_FIELDS = 0.3, 4
#: A corner is followed when it comes back to where it was, in pixels, and still looks alike.
_RETURN_PX, _ALIKE, _PATCH_PX = 1.0, 0.6, 11
#: ... and in the last frame it still looks like in the first.
STILL_ALIKE = 0.5
_LIGHT_PX = 6.0


#: Frames that are looked at from one end of a transition to the other, at most.
_MAX_STEPS = 40


def without_same_scenes(
    transitions: Sequence[Transition], source: Source, index: FrameIndex
) -> list[Transition]:
    """The transitions through which no scene goes on.

    Args:
        transitions: what looks like changes of shot.
        source: the video; only frames near transitions are decoded.
        index: its frames.
    """
    size = fitted_size(index.info.height, index.info.width, (LONGEST_PX, LONGEST_PX))
    return [each for each in transitions if not _goes_on(each, source, index, size)]


def _goes_on(
    transition: Transition, source: Source, index: FrameIndex, size: tuple[int, int]
) -> bool:
    first, last = max(transition.start - 1, 0), min(transition.end, index.info.num_frames - 1)
    count = min(last - first + 1, _MAX_STEPS)
    numbers = np.unique(np.linspace(first, last, count).round().astype(np.int64))
    try:
        frames = decode(source, frame_indices=numbers, size=size, index=index).frames_THWC
    except VideoError:  # damaged here: leave it as it is
        return False
    lumas = [cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY) for frame_HWC in frames]
    # Edges of a shadow are corners of one side alone, so both sides are asked.
    return staying_share(lumas) >= SAME_SCENE or staying_share(lumas[::-1]) >= SAME_SCENE


def staying_share(frames_THW: Sequence[NDArray[np.uint8]]) -> float:
    """Share of the picture, 0 to 1, whose corners can be followed from the first frame to the last.

    Args:
        frames_THW: luma of neighbouring frames, about :data:`LONGEST_PX` wide.

    Returns:
        0 where there are too few corners to tell.
    """
    before = evened(frames_THW[0])
    found = cv2.goodFeaturesToTrack(before, _MAX_CORNERS, 0.02, 5)
    if found is None:
        return 0.0
    first_N2 = found.reshape(-1, 2)
    place_N2, stays_N = first_N2.copy(), np.ones(len(first_N2), dtype=bool)
    for frame_HW in frames_THW[1:]:
        after = evened(frame_HW)
        place_N2, followed_N = _follow(before, after, place_N2)
        stays_N &= followed_N
        before = after
    # In a slow dissolve a corner can turn into another one by and by.
    first = evened(frames_THW[0])
    for index in np.flatnonzero(stays_N).tolist():
        stays_N[index] = _alike(first, before, first_N2[index], place_N2[index]) >= STILL_ALIKE
    height, width = before.shape
    row_N = (first_N2[:, 1] * _GRID[0] / height).astype(int)
    field_N = row_N * _GRID[1] + (first_N2[:, 0] * _GRID[1] / width).astype(int)
    num_fields = _GRID[0] * _GRID[1]
    count_F = np.bincount(field_N, minlength=num_fields)
    staying_F = np.bincount(field_N, stays_N, minlength=num_fields)
    counting_F = count_F >= _LEAST_CORNERS
    if counting_F.sum() < _LEAST_FIELDS:
        return 0.0
    return float((staying_F[counting_F] >= _STAYING * count_F[counting_F]).mean())


def evened(frame_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture without its light: each place less the mean around it, over the contrast there."""
    luma = frame_HW.astype(np.float32)
    detail = luma - cv2.GaussianBlur(luma, (0, 0), _LIGHT_PX)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _LIGHT_PX))
    return np.clip(128 + 50 * detail / (contrast + 2), 0, 255).astype(np.uint8)


def _follow(
    before_HW: NDArray[np.uint8], after_HW: NDArray[np.uint8], place_N2: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Where corners are in the next picture, and which of them were really found there."""
    start = place_N2.astype(np.float32).reshape(-1, 1, 2)
    follow = partial(cv2.calcOpticalFlowPyrLK, nextPts=None, winSize=(15, 15), maxLevel=3)
    there, found, _ = follow(before_HW, after_HW, start)
    back, returned, _ = follow(after_HW, before_HW, there)
    off_px = np.linalg.norm((back - start).reshape(-1, 2), axis=1)
    good = (found.ravel() == 1) & (returned.ravel() == 1) & (off_px < _RETURN_PX)
    place = there.reshape(-1, 2)
    for index in np.flatnonzero(good).tolist():
        good[index] = _alike(before_HW, after_HW, start[index, 0], place[index]) >= _ALIKE
    return place, good


def _alike(
    before_HW: NDArray[np.uint8], after_HW: NDArray[np.uint8], one: Array, other: Array
) -> float:
    """Correlation of two patches."""
    size = (_PATCH_PX, _PATCH_PX)
    patches = [
        cv2.getRectSubPix(picture, size, (float(place[0]), float(place[1]))).astype(np.float32)
        for picture, place in ((before_HW, one), (after_HW, other))
    ]
    a, b = (patch - patch.mean() for patch in patches)
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))
