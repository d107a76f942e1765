"""What can be used of a source, and where it is cut, in the time that a player shows.

Frames of a variable rate stand for different times, so that every length here is one of
presentation time: ``edges_s`` are the seconds at which each frame begins and, as the last one, at
which the last frame ends (:attr:`nemo_cosmos.video.FrameIndex.edges_s`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_curation.shots.transition import Transition

Seconds = NDArray[np.float64]
#: A picture that stands for longer than this, and for this many times as long as is usual in its
#: source, is one behind which recording stopped or timestamps jumped.
MAX_HOLD_S, MAX_HOLD_STEPS = 10.0, 10.0
#: Where nearly all pictures of a source stand equally long, less shows that some are lost.
STEADY_SHARE, MISSING_S = 0.95, 0.5
#: Edges are rounded to microseconds.
_EPSILON_S = 2e-6


@dataclass(frozen=True)
class Loss:
    """Frames of a source that no clip may contain.

    Attributes:
        start: the first of them.
        end: frame after the last one.
        reason: a short word that is counted.
        detail: one sentence with the values.
    """

    start: int
    end: int
    reason: str
    detail: str


def find_damage(damaged_T: NDArray[np.bool_], edges_s: Seconds) -> list[Loss]:
    """Each stretch of frames that cannot be decoded."""
    return [
        Loss(
            start,
            end,
            "damaged",
            f"{end - start} frames ({edges_s[end] - edges_s[start]:.2f} s) cannot be decoded, or "
            "refer to some that cannot",
        )
        for start, end in _runs(damaged_T)
    ]


def find_holds(edges_s: Seconds, max_hold_s: float = MAX_HOLD_S) -> list[Loss]:
    """Each frame that stands for so long that there is no video."""
    steps_s = np.diff(edges_s)
    usual_s = float(np.median(steps_s))
    # Of a steady recording, a piece is missing there.
    is_steady = np.mean(np.abs(steps_s - usual_s) <= 0.1 * usual_s) >= STEADY_SHARE
    if is_steady and max_hold_s <= MAX_HOLD_S:
        max_hold_s = MISSING_S
    limit_s = max(max_hold_s, MAX_HOLD_STEPS * usual_s)
    return [
        Loss(frame, frame + 1, "gap", f"no new picture for {steps_s[frame]:.2f} s")
        for frame in np.flatnonzero(steps_s > limit_s).tolist()
    ]


def without(
    spans: Iterable[tuple[int, int]], losses: Iterable[Loss], cuts: Iterable[int]
) -> list[tuple[int, int]]:
    """What is left of spans of frames without the lost ones, cut at these frames as well."""
    holes = [*((loss.start, loss.end) for loss in losses), *((cut, cut) for cut in cuts)]
    left = list(spans)
    for first, last in sorted(holes):
        pieces = []
        for start, end in left:
            if first >= end or last <= start:
                pieces.append((start, end))
            else:
                pieces += [(start, min(first, end)), (max(last, start), end)]
        left = [(start, end) for start, end in pieces if end > start]
    return left


def widened(
    transitions: Iterable[Transition], edges_s: Seconds, boundary_s: float
) -> list[Transition]:
    """Changes of shot with what is left out on either side of them.

    Args:
        transitions: the changes that a detector found.
        edges_s: the times of the frames.
        boundary_s: seconds on either side; at least one frame unless it is 0.
    """
    if boundary_s <= 0:
        return list(transitions)
    wide, num_frames = [], len(edges_s) - 1
    for each in transitions:
        first, last = min(each.start, num_frames), min(each.end, num_frames)
        ends_s, begins_s = edges_s[first] - boundary_s, edges_s[last] + boundary_s
        start = int(np.searchsorted(edges_s, ends_s + _EPSILON_S, side="right")) - 1
        end = int(np.searchsorted(edges_s, begins_s - _EPSILON_S))
        wide.append(Transition(max(0, min(start, first - 1)), max(end, last + 1)))
    return wide


def strides(edges_s: Seconds, stride_s: float) -> list[tuple[int, int]]:
    """Spans of this length from the first frame on; the last one may be shorter."""
    count = math.ceil(edges_s[-1] / stride_s - _EPSILON_S)
    return _between(edges_s, 0, len(edges_s) - 1, stride_s * np.arange(1, count))


def parts_by_time(
    edges_s: Seconds, start: int, end: int, longest_s: float
) -> list[tuple[int, int]]:
    """Cut a span into the fewest parts of at most this length, all about equally long."""
    begin_s, length_s = float(edges_s[start]), float(edges_s[end] - edges_s[start])
    parts = [(start, end)]
    for count in range(max(1, math.ceil(length_s / longest_s - _EPSILON_S)), end - start + 1):
        times_s = begin_s + length_s * np.arange(1, count) / count
        parts = _between(edges_s, start, end, times_s)
        if max(edges_s[b] - edges_s[a] for a, b in parts) <= longest_s + _EPSILON_S:
            break
    return parts


def _between(edges_s: Seconds, start: int, end: int, times_s: Seconds) -> list[tuple[int, int]]:
    """Spans from ``start`` to ``end`` that are cut at the edges nearest to these times."""
    middles_s = (edges_s[:-1] + edges_s[1:]) / 2
    cuts = np.searchsorted(middles_s, times_s - _EPSILON_S).tolist()
    inside = sorted({cut for cut in cuts if start < cut < end})
    return list(itertools.pairwise([start, *inside, end]))


def _runs(chosen_T: NDArray[np.bool_]) -> Sequence[tuple[int, int]]:
    """Stretches of true, end exclusive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen_T, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
