"""The rate of a video's frames, how long they last, and what is missing at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

#: The last frame is shown as long as this many before it, in the middle.
_LAST_STEPS = 5
#: Containers that say how long the pictures are; others guess it, or count the sound.
_DECLARING = frozenset(("mov", "mp4", "matroska", "webm", "avi"))


def frame_rate(pts: NDArray[np.int64], stream: av.VideoStream) -> tuple[float, bool]:
    """Return frames per second and whether the spacing varies.

    Timestamps are integers, so a constant 24 fps in a millisecond time base jitters by a tick;
    frames count as evenly spaced when each lies within a tick or a tenth of a frame of its place.
    """
    declared = float(stream.average_rate or stream.guessed_rate or 0)
    if len(pts) < 2:
        return declared or 24.0, False
    spacing = (pts[-1] - pts[0]) / (len(pts) - 1)
    tolerance = max(1.5, 0.1 * spacing)
    drift = np.abs(pts - (pts[0] + spacing * np.arange(len(pts))))
    measured = float(1 / (spacing * stream.time_base))
    variable = bool(drift.max() > tolerance)
    # A declared rate is believed when it puts the last frame where it is.
    declared_span = (len(pts) - 1) / (declared * float(stream.time_base)) if declared else 0.0
    agrees = abs(declared_span - (pts[-1] - pts[0])) <= max(tolerance, 0.5 * spacing)
    return (declared if agrees and not variable else measured), variable


def tidy(fps: float) -> float:
    """A rate that was measured on rounded timestamps, as the usual one that it stands for."""
    for usual in (round(fps), round(fps * 1.001) / 1.001):
        if abs(fps - usual) < 2e-4 * fps:
            return float(usual)
    return fps


def length_s(pts: NDArray[np.int64], fps: float, variable: bool, stream: av.VideoStream) -> float:
    """Seconds from the first frame to the end of the last, which packets rarely state."""
    if not variable:
        return len(pts) / fps
    steps = np.diff(pts)
    return float((pts[-1] - pts[0] + np.median(steps[-_LAST_STEPS:])) * stream.time_base)


def lost_s(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    pts: NDArray[np.int64],
    duration_s: float,
) -> float:
    """Seconds that the container declares for the stream and does not contain."""
    if not _DECLARING & set(container.format.name.split(",")):
        return 0.0
    declared_s = 0.0
    if "avi" in container.format.name:  # its length is guessed by the size of the file
        declared_s = float(stream.frames / (stream.average_rate or 1))
    elif stream.duration is not None:
        declared_s = float(stream.duration * stream.time_base)
    elif "DURATION" in stream.metadata:  # Matroska's statistics, as "00:00:10.000000000"
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        declared_s = 3600 * float(hours) + 60 * float(minutes) + float(seconds)
    elif len(container.streams) == 1:
        declared_s = float((container.duration or 0) / 1_000_000)
    lost_s = declared_s - duration_s - max(0.0, float(pts[0] * stream.time_base))
    # Durations are rounded, and may or may not include the last frame or the first time.
    tolerance_s = 0.05 + 1.5 * duration_s / len(pts)
    return round(lost_s, 6) if lost_s > tolerance_s else 0.0
