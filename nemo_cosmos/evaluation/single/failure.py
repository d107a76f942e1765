"""Has a video failed, for anyone to see? A still picture, a cut, a collapse to grey or to noise.

The Cosmos paper counts failures of its autoregressive models by hand, among them things that
appear from below without a reason. What a computer can count of it is here, for any video, as 0 or
1, so that the mean over many is a failure rate with an interval:

- *static*: nothing moves in any part of the picture from frame to frame;
- *flat*: some frame has next to no contrast: all grey, black or white;
- *noise*: neighbouring pixels, or neighbouring frames for a while, have nothing to do with each
  other;
- *cut*: one step changes the whole picture, far more than the steps around it;
- *from below*: something large that no motion brings comes in through the lower edge.

Whether a thing has a reason to appear is for :mod:`nemo_cosmos.evaluation.judges.failure`. A cut,
a pause or a fade that someone meant counts, too: the truth's own rate is the one to compare with.

Shape suffixes: T frames (T-1 steps between them), H height, W width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.evaluation.metric import Frames, VideoMetric

WORKING_SIDE_PX = 128
STILL_LEVELS = 1.0
"""Grey levels; a part of the picture that changes by less stands still."""
STILL_SHARE = 0.95
"""Share of the steps that may be still."""
FLAT_LEVELS = 5.0
"""Standard deviation of a frame's grey levels; night and fog have more."""
MIN_NEIGHBOUR_CORRELATION = 0.5
"""Of pixels next to each other; photographs have 0.9 and more."""
MIN_STEP_CORRELATION = 0.3
NUM_WILD_STEPS = 3
"""Steps in a row below it; one alone is a cut."""
CUT_LEVELS, CUT_RATIO, CUT_CORRELATION, CUT_SHARE = 15.0, 4.0, 0.75, 0.7
NEW_LEVELS = 25.0
"""Grey levels that motion does not explain."""
NEW_SHARE, NEW_HEIGHT = 0.05, 0.2
"""Of the picture's area and height that something new covers within :data:`NEW_STEPS` steps."""
NEW_STEPS = 4
_PARTS = 8

Greys = NDArray[np.float32]


def is_static(frames_THWC: Frames) -> bool:
    """Whether nothing moves."""
    grey_THW = _grey(frames_THWC)
    if len(grey_THW) < 2:
        return False
    # A small thing that moves changes its own part of the picture, and hardly the mean of all.
    steps = np.abs(np.diff(grey_THW, axis=0))
    size = (_PARTS, _PARTS)
    parts = np.stack([cv2.resize(step, size, interpolation=cv2.INTER_AREA) for step in steps])
    return bool((parts.max(axis=(1, 2)) < STILL_LEVELS).mean() >= STILL_SHARE)


def is_flat(frames_THWC: Frames) -> bool:
    """Whether some frame has next to no contrast."""
    return bool((_grey(frames_THWC).std(axis=(1, 2)) < FLAT_LEVELS).any())


def is_noise(frames_THWC: Frames) -> bool:
    """Whether neighbouring pixels, or neighbouring frames for a while, are unrelated."""
    grey_THW = _grey(frames_THWC)
    if any(_is_noisy(grey) for grey in grey_THW):
        return True
    is_wild = _step_correlations(grey_THW) < MIN_STEP_CORRELATION
    return any(
        is_wild[first : first + NUM_WILD_STEPS].all()
        for first in range(len(is_wild) - NUM_WILD_STEPS + 1)
    )


def _is_noisy(grey_HW: Greys) -> bool:
    """Whether most parts of a frame are of unrelated pixels; a drawing of lines has empty parts."""
    parts = [
        part
        for rows in np.array_split(grey_HW, _PARTS)
        for part in np.array_split(rows, _PARTS, axis=1)
    ]
    noisy = [
        part.std() >= FLAT_LEVELS
        and max(_correlation(part[:, 1:], part[:, :-1]), _correlation(part[1:], part[:-1]))
        < MIN_NEIGHBOUR_CORRELATION
        for part in parts
        if min(part.shape) > 1
    ]
    return bool(noisy) and float(np.mean(noisy)) > 0.5


def has_cut(frames_THWC: Frames) -> bool:
    """Whether one step changes the whole picture."""
    grey_THW = _grey(frames_THWC)
    steps = np.abs(np.diff(grey_THW, axis=0))
    changes = steps.mean(axis=(1, 2))
    size = (_PARTS, _PARTS)
    correlations = _step_correlations(grey_THW)
    for step, (change, correlation) in enumerate(zip(changes, correlations, strict=True)):
        around = np.delete(changes, step)
        usual = float(np.median(around)) if around.size else 0.0
        is_large = change > max(CUT_LEVELS, CUT_RATIO * usual)
        if not is_large or correlation >= CUT_CORRELATION:
            continue
        parts = cv2.resize(steps[step], size, interpolation=cv2.INTER_AREA)
        if (parts > CUT_LEVELS / 2).mean() > CUT_SHARE:  # an arm before the lens leaves the rest
            return True
    return False


def enters_from_below(frames_THWC: Frames) -> bool:
    """Whether something large that no motion brings comes in through the lower edge."""
    grey = [np.clip(frame, 0, 255).astype(np.uint8) for frame in _grey(frames_THWC)]
    if len(grey) < 2 or min(grey[0].shape) < 16:
        return False
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    news = np.stack([_new(dis, before, after) for before, after in itertools.pairwise(grey)])
    height = len(grey[0])
    for first in range(len(news)):
        new_HW = np.asarray(news[first : first + NEW_STEPS].any(axis=0))
        if new_HW.mean() > 0.5:  # all of the picture is new: a cut, or noise
            continue
        below = _connected(new_HW, new_HW.shape[0] - 1)
        above = _connected(new_HW, 0)
        rows = np.flatnonzero(below.any(axis=1))
        tall = (height - rows[0]) / height if rows.size else 0.0
        if below.mean() > max(NEW_SHARE, 3 * above.mean()) and tall > NEW_HEIGHT:
            return True
    return False


def _new(dis: cv2.DISOpticalFlow, before_HW: Frames, after_HW: Frames) -> NDArray[np.bool_]:
    """Pixels that nothing nearby in the frame before looks like, bool ``(H, W)``."""
    flow_HW2 = dis.calc(after_HW, before_HW, None)
    height, width = after_HW.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    brought = cv2.remap(
        before_HW,
        x + flow_HW2[..., 0],
        y + flow_HW2[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    away = cv2.blur(np.abs(after_HW.astype(np.float32) - brought), (5, 5))
    return np.asarray(away > NEW_LEVELS)


def _connected(new_HW: NDArray[np.bool_], row: int) -> NDArray[np.bool_]:
    """The part of the new pixels that touches a row."""
    _, labels_HW = cv2.connectedComponents(new_HW.astype(np.uint8))
    touching = np.unique(labels_HW[row])
    return np.isin(labels_HW, touching[touching > 0])


def _grey(frames_THWC: Frames) -> Greys:
    """Grey levels at the working size; small videos stay as they are."""
    scale = min(1.0, WORKING_SIDE_PX / max(frames_THWC.shape[1:3]))
    width, height = (max(1, round(side * scale)) for side in frames_THWC.shape[2:0:-1])
    return np.stack(
        [
            cv2.resize(
                cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32),
                (width, height),
                interpolation=cv2.INTER_AREA,
            )
            for frame in frames_THWC
        ]
    )


def _step_correlations(grey_THW: Greys) -> NDArray[np.float64]:
    return np.array([_correlation(*step) for step in itertools.pairwise(grey_THW)])


def _correlation(first: Greys, second: Greys) -> float:
    """Pearson's correlation; 1 where either is flat, which is for others to find."""
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size > 1e-6 else 1.0


KINDS: dict[str, tuple[Callable[[Frames], bool], str]] = {
    "static": (is_static, "nothing moves"),
    "flat": (is_flat, "some frame is all grey, black or white"),
    "noise": (is_noise, "pixels or frames have nothing to do with each other"),
    "cut": (has_cut, "one step changes the whole picture"),
    "from_below": (enters_from_below, "something new and large comes in through the lower edge"),
}
"""Kind of failure -> whether a video has it, and in words."""


def has_failed(frames_THWC: Frames) -> bool:
    """Whether a video has failed in any of these ways."""
    return any(has_kind(frames_THWC) for has_kind, _ in KINDS.values())


def _metric(name: str, description: str, function: Callable[[Frames], bool]) -> VideoMetric:
    return VideoMetric(
        name=name,
        description=description,
        higher_is_better=False,
        is_default=False,
        compute=lambda frames_THWC: float(function(frames_THWC)),
    )


FAILURE_RATE = _metric(
    "failure_rate", "share of videos that failed in any of the ways below", has_failed
)
FAILURE_STATIC, FAILURE_FLAT, FAILURE_NOISE, FAILURE_CUT, FAILURE_FROM_BELOW = (
    _metric(f"failure_{kind}", f"share of videos in which {words}", function)
    for kind, (function, words) in KINDS.items()
)
