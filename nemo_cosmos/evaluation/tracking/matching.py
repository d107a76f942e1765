"""Find an object in every frame of a video: match its picture, and join the places to a path.

What an object looks like is learned from the true video, where its path is known: its picture in
each frame, the most typical of these, and a window (:class:`Look`) of the pixels that move with it
rather than stay with the background. At each frame of the other video these pictures are compared
with every place, by the mean squared difference of colours in the window. The path found is the one
of least total cost, where a step costs the square of its length; dynamic programming finds it
exactly (Viterbi, 1967; in stereo Ohta and Kanade, 1985). Unlike a tracker that goes from frame to
frame it does not drift and comes back after an occlusion; a blurred object is still the best match.

Points are (x, y) in pixels from the picture's upper left corner: the middle of the first pixel is
(0.5, 0.5). Shape suffixes: T frames, H height, W width, C colours, P side of a template.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.evaluation.metric import Frames

Floats = NDArray[np.float64]
Pictures = NDArray[np.float32]

WORKING_SIDE_PX = 256
"""Videos are compared at this longest side: small ones get subpixels, large ones get fast."""
COLOUR_SIGMA = 20.0
"""Grey levels of difference that a blurred or noisy picture of the same object has."""
MAX_COST = 6.0
"""Where nothing looks like the object, one place is as good as the next."""
MIN_REACH_PX, MAX_REACH_PX = 4, 24
"""Steps from frame to frame, at the working size."""
_FARTHEST_COST = 4.0
SEEN_SHARE = 0.8
"""An object is seen where its picture differs from the best match by less than this share of what
tells it from its surroundings."""
_NOISE_LEVELS = 4.0
_STILL_SQUARE = 100.0
"""Squared grey levels of change that say nothing about what moves: noise and shadows."""


@dataclass(frozen=True)
class Look:
    """What an object looks like along a video.

    Attributes:
        pictures_TPPC: its colours at each frame, float32; those of the first frame that shows it
            where it is outside the picture.
        window_PP: weight of each pixel, high where it belongs to the object.
        offset_2: (x, y) from the object's point to the middle of the pictures, which is where the
            pixels are that move with it.
        typical: number of the picture that the others are most like.
        moves_with: share of the change at a fixed place that moving along explains: 1 for a rigid
            object before any background, 0 for a background or where nothing moves.
    """

    pictures_TPPC: Pictures
    window_PP: Pictures
    offset_2: Floats
    typical: int
    moves_with: float

    @property
    def contrasts_T(self) -> Floats:
        """Grey levels by which it stands out from its surroundings at each frame."""
        rim = np.concatenate(
            [
                self.pictures_TPPC[:, 0],
                self.pictures_TPPC[:, -1],
                self.pictures_TPPC[:, :, 0],
                self.pictures_TPPC[:, :, -1],
            ],
            axis=1,
        )
        around_TC = np.median(rim, axis=1)
        squares_TPP = ((self.pictures_TPPC - around_TC[:, None, None]) ** 2).mean(axis=-1)
        weights_PP = self.window_PP**2
        return np.sqrt((squares_TPP * weights_PP).sum(axis=(1, 2)) / weights_PP.sum())


@dataclass(frozen=True)
class Path:
    """Where an object is.

    Attributes:
        points_T2: (x, y) of its middle.
        is_seen_T: whether anything there looks like it; elsewhere the place is a guess between the
            frames that show it.
    """

    points_T2: Floats
    is_seen_T: NDArray[np.bool_]


def working_scale(frames_THWC: Frames) -> float:
    """Factor by which a video is resized before it is searched."""
    return WORKING_SIDE_PX / max(frames_THWC.shape[1:3])


def resized(frames_THWC: Frames) -> Pictures:
    """The frames at the working size, float32, for points times :func:`working_scale`."""
    scale = working_scale(frames_THWC)
    height, width = (max(1, round(side * scale)) for side in frames_THWC.shape[1:3])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.stack(
        [cv2.resize(frame, (width, height), interpolation=method) for frame in frames_THWC]
    ).astype(np.float32)


def learn_look(
    frames_THWC: Pictures, points_T2: Floats, is_inside_T: NDArray[np.bool_], radius_px: int
) -> Look:
    """Learn what an object looks like from a video in which its path is known.

    Args:
        frames_THWC: frames at the working size.
        points_T2: (x, y) of the object, at the working size.
        is_inside_T: which frames show it; at least one does.
        radius_px: half the side of the pictures.
    """
    shown = np.flatnonzero(is_inside_T)
    frames_THWC, points_T2 = frames_THWC[shown], points_T2[shown]
    _, belongs_PP, _ = _along(frames_THWC, points_T2, radius_px)
    excess_PP = np.maximum(belongs_PP - 0.5, 0) * _round_window(radius_px)
    offset_2 = np.zeros(2)
    if (total := float(excess_PP.sum())) > 1e-3:
        steps_P = np.arange(-radius_px, radius_px + 1)
        offset_2 = np.array([excess_PP.sum(axis=0) @ steps_P, excess_PP.sum(axis=1) @ steps_P])
        offset_2 /= total
    pictures_TPPC, belongs_PP, moves_with = _along(frames_THWC, points_T2 + offset_2, radius_px)
    window_PP = _round_window(radius_px) * belongs_PP**2
    pictures = dict(zip(shown.tolist(), pictures_TPPC, strict=True))
    all_TPPC = np.stack([pictures.get(t, pictures_TPPC[0]) for t in range(len(is_inside_T))])
    typical = int(shown[_most_typical(pictures_TPPC, window_PP)])
    return Look(all_TPPC, window_PP / window_PP.max(), offset_2, typical, moves_with)


def follow(frames_THWC: Pictures, look: Look, start_2: Floats | None, reach_px: float) -> Path:
    """Find an object in a video of the same length as the one that its look was learned from.

    Args:
        frames_THWC: frames at the working size.
        look: what it looks like at each frame.
        start_2: (x, y) near which it is in the first frame; None for anywhere.
        reach_px: how far it may go from frame to frame, at the working size.

    Returns:
        the path at the working size.
    """
    reach = int(np.clip(np.ceil(reach_px), MIN_REACH_PX, MAX_REACH_PX))
    weight = np.float32(_FARTHEST_COST / reach**2)
    typical_PPC = look.pictures_TPPC[look.typical]
    means_THW = np.stack(
        [
            np.minimum(
                _mean_squared(frame_HWC, typical_PPC, look.window_PP),
                _mean_squared(frame_HWC, picture_PPC, look.window_PP),
            )
            for frame_HWC, picture_PPC in zip(frames_THWC, look.pictures_TPPC, strict=True)
        ]
    )
    costs_THW = np.minimum(means_THW / (2 * COLOUR_SIGMA**2), MAX_COST)
    if start_2 is not None:
        x, y = (np.arange(size) + 0.5 for size in costs_THW.shape[:0:-1])
        middle_2 = start_2 + look.offset_2
        away_HW = (x[None] - middle_2[0]) ** 2 + (y[:, None] - middle_2[1]) ** 2
        costs_THW[0] += weight * away_HW
    places_T2 = _cheapest(costs_THW, weight, reach)
    found_T = np.sqrt(means_THW[np.arange(len(means_THW)), places_T2[:, 0], places_T2[:, 1]])
    points_T2 = np.stack(
        [
            _subpixel(mean_HW, *place)
            for mean_HW, place in zip(means_THW, places_T2.tolist(), strict=True)
        ]
    )
    is_seen_T = found_T < SEEN_SHARE * look.contrasts_T + _NOISE_LEVELS
    return Path(points_T2 - look.offset_2, is_seen_T)


def _along(
    frames_THWC: Pictures, points_T2: Floats, radius_px: int
) -> tuple[Pictures, Pictures, float]:
    """Pictures along a path, which of their pixels belong to what moves, and how much does."""
    moving_TPPC = np.stack(
        [_cut(frame, point, radius_px) for frame, point in zip(frames_THWC, points_T2, strict=True)]
    )
    still_TPPC = np.stack([_cut(frame, points_T2[0], radius_px) for frame in frames_THWC])
    with_it_PP = ((moving_TPPC - moving_TPPC[0]) ** 2).mean(axis=(0, -1))
    in_place_PP = ((still_TPPC - still_TPPC[0]) ** 2).mean(axis=(0, -1))
    belongs_PP = (in_place_PP + _STILL_SQUARE) / (in_place_PP + with_it_PP + 2 * _STILL_SQUARE)
    window_PP = _round_window(radius_px)
    gain_PP = np.maximum(in_place_PP - with_it_PP, 0)
    moves_with = (gain_PP * window_PP).sum() / ((in_place_PP + _STILL_SQUARE) * window_PP).sum()
    return moving_TPPC, belongs_PP, float(moves_with)


def _most_typical(pictures_TPPC: Pictures, window_PP: Pictures) -> int:
    """The medoid: a wrong or hidden first picture must not stand for the object."""
    rows_TD = (pictures_TPPC * window_PP[..., None]).reshape(len(pictures_TPPC), -1)
    squares_T = (rows_TD**2).sum(axis=1)
    distances_TT = squares_T[:, None] + squares_T - 2 * rows_TD @ rows_TD.T
    return int(np.sqrt(np.maximum(distances_TT, 0)).sum(axis=1).argmin())


def _cut(frame_HWC: Pictures, point_2: Floats, radius_px: int) -> Pictures:
    """The picture around a point, with its subpixel in the middle."""
    side = 2 * radius_px + 1
    x, y = (float(value) - 0.5 for value in point_2)  # OpenCV counts from a pixel's middle
    return np.asarray(cv2.getRectSubPix(frame_HWC, (side, side), (x, y)))


def _round_window(radius_px: int) -> Pictures:
    """A window that fades towards its rim, float32 ``(P, P)``."""
    side_P = np.exp(-0.5 * (np.arange(-radius_px, radius_px + 1) / (radius_px / 1.8)) ** 2)
    return np.outer(side_P, side_P).astype(np.float32)


def _mean_squared(frame_HWC: Pictures, picture_PPC: Pictures, window_PP: Pictures) -> Pictures:
    """Weighted mean squared difference at every place ``(H, W)``."""
    rim = len(window_PP) // 2
    padded = cv2.copyMakeBorder(frame_HWC, rim, rim, rim, rim, cv2.BORDER_REPLICATE)
    window_PPC = np.repeat(window_PP[..., None], 3, axis=2).astype(np.float32)
    total_HW = cv2.matchTemplate(padded, picture_PPC, cv2.TM_SQDIFF, mask=window_PPC)
    return np.maximum(total_HW, 0) / float((window_PPC**2).sum())


def _cheapest(costs_THW: Pictures, weight: np.float32, reach: int) -> NDArray[np.intp]:
    """Places ``(T, 2)`` as (y, x) of the cheapest path."""
    totals = [costs_THW[0]]
    for cost_HW in costs_THW[1:]:
        totals.append(cost_HW + _spread(_spread(totals[-1], weight, reach, 0), weight, reach, 1))
    width = costs_THW.shape[2]
    places = [divmod(int(totals[-1].argmin()), width)]
    for total_HW in totals[-2::-1]:
        y, x = places[-1]
        top, left = max(0, y - reach), max(0, x - reach)
        near = total_HW[top : y + reach + 1, left : x + reach + 1]
        rows, columns = np.arange(near.shape[0]) + top - y, np.arange(near.shape[1]) + left - x
        step = near + weight * (rows[:, None] ** 2 + columns[None] ** 2)
        row, column = divmod(int(step.argmin()), near.shape[1])
        places.append((top + row, left + column))
    return np.array(places[::-1])


def _spread(total_HW: Pictures, weight: np.float32, reach: int, axis: int) -> Pictures:
    """Least cost of getting to each place along one axis; squares of lengths add up by axis."""
    best = total_HW.copy()
    size = total_HW.shape[axis]
    for step in range(1, min(reach, size - 1) + 1):
        price = weight * np.float32(step**2)
        low = [slice(None)] * 2
        high = [slice(None)] * 2
        low[axis], high[axis] = slice(None, size - step), slice(step, None)
        for into, outof in ((tuple(low), tuple(high)), (tuple(high), tuple(low))):
            np.minimum(best[into], total_HW[outof] + price, out=best[into])
    return best


def _subpixel(cost_HW: Pictures, y: int, x: int) -> Floats:
    """The point of a place, refined by a parabola through its neighbours along each axis."""
    point_2 = np.array([x + 0.5, y + 0.5])
    height, width = cost_HW.shape
    for axis, (place, size) in enumerate(((x, width), (y, height))):
        if not 0 < place < size - 1:
            continue
        line = cost_HW[y, x - 1 : x + 2] if axis == 0 else cost_HW[y - 1 : y + 2, x]
        bend = float(line[0] - 2 * line[1] + line[2])
        if bend > 1e-6:
            point_2[axis] += float(np.clip(0.5 * (line[0] - line[2]) / bend, -0.5, 0.5))
    return point_2
