"""What every detector of shots returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Transition:
    """A change from one shot to the next.

    Attributes:
        start: first frame that no longer belongs to the shot before.
        end: first frame of the next shot; equal to ``start`` for a hard cut.
    """

    start: int
    end: int


def shot_spans(
    transitions: Sequence[Transition], num_frames: int, margin: int = 0
) -> list[tuple[int, int]]:
    """Frames of each shot, end exclusive; those of transitions belong to none.

    Args:
        transitions: transitions that a detector found.
        num_frames: length of the video.
        margin: frames that are left out on either side of each transition as well, where encoders
            and rate converters leave traces of the other shot.
    """
    spans, start = [], 0
    for transition in sorted(transitions):
        spans.append((start, min(transition.start - margin, num_frames)))
        start = max(start, transition.end + margin)
    spans.append((start, num_frames))
    return [(first, last) for first, last in spans if last > first]
