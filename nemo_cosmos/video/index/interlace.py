"""Interlaced video: told by what its pictures show, and made into whole frames with bwdif.

An interlaced frame holds two fields, its even and its odd lines, taken half a frame apart: what
moves has combed edges. Flags of streams are wrong in both directions (whole frames sent as fields,
fields encoded as whole frames), so the pictures are asked. Where something moves, the lines of one
field match the other field of the same frame worse than that of the frame before or after, and
which of the two says which field is first. That is the comparison of FFmpeg's ``idet``, here on the
moving pixels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.video.source import Source, decode_packets, open_video

#: ``unsure``: combed, but the order of the fields cannot be told. ``flagged``: the flags of each
#: frame say whether it is interlaced and how.
Scan = Literal["progressive", "top_first", "bottom_first", "flagged", "unsure"]
#: What bwdif is told; the frames of other scans are whole.
_BWDIF = {
    "top_first": "mode=send_frame:deint=all:parity=tff",
    "bottom_first": "mode=send_frame:deint=all:parity=bff",
    "flagged": "mode=send_frame:deint=interlaced:parity=auto",
}

#: Columns that are looked at, at most.
_COLUMNS = 360
#: A pixel moves when its luma changes by more than this from frame to frame, and a look counts
#: when this share of the pixels does.
_MOVING, _LEAST_MOVING = 24, 0.002
#: A look is combed when the other order of fields fits so much worse while the frame's own lines
#: differ nearly as much as those of neighbouring frames, or when its own lines differ most. Of 21
#: real recordings none reaches 1.15, and woven ones seldom miss 1.2.
_ORDER_RATIO, _COMB_RATIO, _CLEAR_COMB_RATIO = 1.2, 0.75, 1.1
#: Looks with motion that decide if they agree; more are taken if they do not, up to so many.
_FEW_LOOKS, _MANY_LOOKS = 3, 9
#: Of many looks, the shares from which a video counts as interlaced and as combed at all.
_MOST, _SOME = 0.6, 0.25
#: Places where looks begin, looks at each, and frames from one to the next.
_PLACES, _LOOKS_PER_PLACE, _LOOK_STEP = 9, 6, 8

Luma = NDArray[np.uint8]


def find_scan(
    source: Source,
    keyframe_pts: NDArray[np.int64],
    is_flagged: bool,
    damaged_pts: Container[int] = (),
) -> Scan:
    """How a video was scanned, by its pictures.

    Args:
        source: the video.
        keyframe_pts: timestamps at which decoding can start.
        is_flagged: whether its flags call it interlaced, which counts where the pictures do not
            show it.
        damaged_pts: timestamps of frames that are not looked at.

    Raises:
        VideoError: it cannot be decoded.
    """
    found = scan_of(_looks(source, keyframe_pts, damaged_pts))
    if is_flagged and found in (None, "unsure"):
        return "flagged"
    return found or "progressive"


def scan_of(looks: Iterable[tuple[Luma, Luma, Luma]]) -> Scan | None:
    """How a video was scanned, by the luma ``(H, W)`` of some triples of neighbouring frames.

    Returns:
        None where too little moves to tell.
    """
    found: list[Scan] = []
    for look in looks:
        scan = _scan_of_look(*look)
        found += [] if scan is None else [scan]
        if len(found) >= _MANY_LOOKS or (len(found) >= _FEW_LOOKS and len(set(found)) == 1):
            break
    if not found:
        return None
    top, bottom, unsure = (
        found.count(scan) / len(found) for scan in ("top_first", "bottom_first", "unsure")
    )
    if max(top, bottom) >= _MOST:
        return "top_first" if top > bottom else "bottom_first"
    return "unsure" if top + bottom + unsure >= _SOME else "progressive"


def _scan_of_look(before_HW: Luma, frame_HW: Luma, after_HW: Luma) -> Scan | None:
    energies = comb_energies(before_HW, frame_HW, after_HW)
    if energies is None:
        return None
    top, bottom, own = energies
    least = max(min(top, bottom), 1.0)
    if own >= _COMB_RATIO * least and max(top, bottom) >= _ORDER_RATIO * least:
        return "top_first" if top > bottom else "bottom_first"
    return "unsure" if own >= _CLEAR_COMB_RATIO * least else "progressive"


def comb_energies(
    before_HW: NDArray[np.uint8], frame_HW: NDArray[np.uint8], after_HW: NDArray[np.uint8]
) -> tuple[float, float, float] | None:
    """How badly lines of three frames fit between each other, where something moves.

    Returns:
        Misfit of the fields that lie far apart if the top field is first, the same for the bottom
        field, and the misfit of the frame's own lines; None where hardly anything moves.
    """
    if len({before_HW.shape, frame_HW.shape, after_HW.shape}) > 1 or frame_HW.shape[0] < 4:
        return None
    step = max(1, frame_HW.shape[1] // _COLUMNS)
    before, frame, after = (
        each[:, ::step].astype(np.int16) for each in (before_HW, frame_HW, after_HW)
    )
    inner = slice(1, -1)
    change = np.maximum(np.abs(frame - before), np.abs(frame - after))
    # The lines above and below show whether the neighbourhood moves.
    moves = np.maximum(np.maximum(change[:-2], change[2:]), change[inner]) > _MOVING
    if moves.mean() < _LEAST_MOVING:
        return None
    around = frame[:-2] + frame[2:]
    earlier = np.where(moves, np.abs(around - 2 * before[inner]), 0).sum(axis=1)
    later = np.where(moves, np.abs(around - 2 * after[inner]), 0).sum(axis=1)
    own = np.where(moves, np.abs(around - 2 * frame[inner]), 0).sum(axis=1)
    # The first of these lines is line 1, of the bottom field.
    bottom, top = slice(0, None, 2), slice(1, None, 2)
    top_first = float(earlier[top].sum() + later[bottom].sum())
    bottom_first = float(earlier[bottom].sum() + later[top].sum())
    return top_first, bottom_first, float(own.sum())


def _looks(
    source: Source, keyframe_pts: NDArray[np.int64], damaged_pts: Container[int]
) -> Iterator[tuple[Luma, Luma, Luma]]:
    """Triples of neighbouring frames from several places of a video."""
    places = np.unique(np.linspace(0, len(keyframe_pts) - 1, _PLACES).round().astype(int))
    # Few keyframes: more looks after each.
    num_looks = max(1, min(_LOOKS_PER_PLACE, _PLACES // max(1, len(places)) * 2 - 1))
    with open_video(source) as (container, stream):
        stream.thread_type = "SLICE"  # frame threads would each decode a frame in advance
        for place in places.tolist():
            if place > 0:
                container.seek(int(keyframe_pts[place]), stream=stream)
            lumas: list[Luma] = []
            for number, frame in enumerate(decode_packets(container, stream)):
                if frame.is_corrupt or frame.pts in damaged_pts:
                    lumas = []
                elif number % _LOOK_STEP == len(lumas):
                    lumas.append(np.asarray(frame.to_ndarray(format="gray"), dtype=np.uint8))
                if len(lumas) == 3:
                    yield lumas[0], lumas[1], lumas[2]
                    lumas = []
                if number >= _LOOK_STEP * (num_looks - 1) + 2:
                    break


class Deinterlacer:
    """Whole frames of an interlaced video, by number, front to back.

    bwdif builds each frame from one field, and the missing lines from what is around them in the
    frame and in its neighbours. One frame comes out for one that goes in.

    Args:
        read_stored: gives the frame of a number; is asked for increasing numbers, of those wanted
            and their neighbours.
        num_frames: number of frames of the video.
        scan: how it was scanned.
    """

    def __init__(
        self, read_stored: Callable[[int], av.VideoFrame], num_frames: int, scan: Scan
    ) -> None:
        self._read_stored, self._num_frames = read_stored, num_frames
        self._options = _BWDIF[scan]
        self._graph: Graph | None = None
        self._pushed = self._pulled = -1

    @staticmethod
    def is_needed(scan: str) -> bool:
        """Whether frames of this scan are to be made whole."""
        return scan in _BWDIF

    def read(self, number: int) -> av.VideoFrame:
        """The whole frame of a number above the last one's."""
        if self._graph is None or number > self._pushed + 1:
            self._graph = None
            self._pushed = max(0, number - 1) - 1
            self._pulled = self._pushed
        is_last = number == self._num_frames - 1
        while self._pushed < number + 1 and not (is_last and self._pushed == number):
            following = self._pushed + 1
            try:
                self._push(self._read_stored(following))
            except VideoError:
                if following == number:
                    raise
                # A neighbour that is damaged: the clip begins or ends here.
                self._pushed = following
                self._pulled = following if following < number else self._pulled
                is_last |= following > number
        assert self._graph is not None
        if is_last:
            self._graph.push(None)
            graph, self._graph = self._graph, None
        else:
            graph = self._graph
        while True:
            frame = graph.pull()
            self._pulled += 1
            if self._pulled == number:
                assert isinstance(frame, av.VideoFrame)
                return frame

    def _push(self, frame: av.VideoFrame) -> None:
        self._pushed += 1
        if self._graph is None:
            self._graph = _graph(frame, self._options)
        frame.pts = self._pushed
        self._graph.push(frame)


def _graph(frame: av.VideoFrame, options: str) -> Graph:
    """A filter of frames like this one."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    bwdif, sink = graph.add("bwdif", options), graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    return graph
