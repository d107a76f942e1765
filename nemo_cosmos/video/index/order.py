"""The frames of a video in the order shown, which is not that of its packets."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.video.index.timestamps import Packets
from nemo_cosmos.video.source import decode_packets

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class ShownFrames:
    """Frames in the order shown.

    The attributes are those of the same names of
    :class:`~nemo_cosmos.video.index.probe.FrameIndex`.
    """

    pts: NDArray[np.int64]
    packet_T: NDArray[np.int64]
    group_T: NDArray[np.int64]
    is_leading_T: NDArray[np.bool_]
    is_bad_T: NDArray[np.bool_]
    section_T: NDArray[np.int64]


def timed_frames(packets: Packets) -> ShownFrames:
    """Frames in the order of their packets' timestamps."""
    order = np.argsort(packets.pts_N, kind="stable")
    pts = packets.pts_N[order]
    if not packets.is_seekable:  # a tick for each of several frames with one timestamp
        pts = np.maximum.accumulate(pts - np.arange(len(pts))) + np.arange(len(pts))
    return ShownFrames(
        pts,
        packets.number_N[order],
        packets.group_N[order],
        packets.is_leading_N[order],
        packets.is_corrupt_N[order],
        packets.section_N[order],
    )


def decoded_frames(
    container: av.container.InputContainer, stream: av.VideoStream, packets: Packets
) -> ShownFrames:
    """Frames in the order in which they are decoded, where packets do not say how they are shown.

    Their timestamps are kept where they are all different (sorted, since AVI's are the right set in
    the wrong order), else a constant rate is assumed. Packets that the decoder refused are frames
    that are missing.
    """
    refused: list[int] = []
    shown = {
        frame.pts: frame.is_corrupt
        for frame in decode_packets(container, stream, refused=refused, is_counting=True)
        if frame.pts is not None
    }
    place_of = {number: place for place, number in enumerate(packets.number_N.tolist())}
    ordered = [number for number in shown if number in place_of]
    if refused:
        ordered = _with_missing(ordered, packets.number_N.tolist())
    places = np.array([place_of[number] for number in ordered], dtype=np.int64)
    pts = np.unique(packets.pts_N[places])
    has_all = len(pts) == len(places) and bool((pts != np.iinfo(np.int64).min).all())
    if packets.is_bare or not has_all:
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        step = max(1, round(1 / (rate * stream.time_base)))
        pts = np.arange(len(places), dtype=np.int64) * step
    is_bad = [shown.get(number, True) for number in ordered]
    return ShownFrames(
        pts,
        packets.number_N[places],
        packets.group_N[places],
        packets.is_leading_N[places],
        packets.is_corrupt_N[places] | np.array(is_bad, dtype=bool),
        packets.section_N[places],
    )


def _with_missing(shown: list[int], numbers: list[int]) -> list[int]:
    """Packets in the order shown; those that were not shown stand behind the ones before them."""
    rank = {number: float(place) for place, number in enumerate(shown)}
    last = -1.0
    for number in numbers:
        last = rank.setdefault(number, last + 0.5) if number not in rank else rank[number]
    return sorted(numbers, key=lambda number: rank[number])
