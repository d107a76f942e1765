"""One pass of decoding over a source that finds out which of its frames can be used."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.video import FrameIndex, Source, decode
from nemo_cosmos.video.source import decode_packets, open_video

if TYPE_CHECKING:
    import av

#: What only needs to be looked at is decoded faster: without H.264's deblocking filter.
QUICK_DECODER = {"skip_loop_filter": "all", "flags2": "+fast"}


@dataclass(frozen=True)
class Survey:
    """What was found out about the frames of a source.

    Attributes:
        damaged_T: ``(T,)`` frames that cannot be decoded, or refer to such.
        size_T2: ``(T, 2)`` height and width of each as stored; 0 of those that are missing.
    """

    damaged_T: NDArray[np.bool_]
    size_T2: NDArray[np.int64]

    def size_of(self, start: int) -> tuple[int, int]:
        """Height and width as stored of the frames from this one on."""
        return int(self.size_T2[start, 0]), int(self.size_T2[start, 1])

    @property
    def resized(self) -> list[int]:
        """Frames from which on pictures are of another size."""
        there = np.flatnonzero(self.size_T2[:, 0])
        changes = (np.diff(self.size_T2[there], axis=0) != 0).any(axis=1)
        found: list[int] = there[1:][changes].tolist()
        return found


class Surveyor:
    """Decodes a source front to back and notes what comes out.

    Args:
        source: the file.
        index: its frames.
    """

    def __init__(self, source: Source, index: FrameIndex) -> None:
        self._source, self._index = source, index
        self._bad_T = np.ones(index.info.num_frames, dtype=bool)
        self._size_T2 = np.zeros((index.info.num_frames, 2), dtype=np.int64)
        self._found: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Number and picture of each frame that is there, in order."""
        index = self._index
        stamps = index.pts if index.seekable else index.packet_T
        number_of = {stamp: number for number, stamp in enumerate(stamps.tolist())}
        with open_video(self._source) as (container, stream):
            stream.codec_context.options = QUICK_DECODER
            for frame in decode_packets(container, stream, is_counting=not index.seekable):
                number = number_of.get(frame.pts)
                if number is None:  # outside the edit list
                    continue
                self._bad_T[number] = frame.is_corrupt
                self._size_T2[number] = frame.height, frame.width
                self._found.append(number)
                yield number, frame

    def result(self) -> Survey:
        """What was found; call it after the pass."""
        self._bad_T[_out_of_order(self._found)] = True
        damaged_T = self._index.with_damage(self._bad_T) if self._bad_T.any() else self._bad_T
        return Survey(damaged_T | self._index.damaged_T, self._size_T2)


def _out_of_order(numbers: list[int]) -> list[int]:
    """The fewest numbers without which the others increase: frames whose timestamps are damaged."""
    ends: list[int] = []  # the least last number of an increasing series of each length
    places: list[int] = []
    for number in numbers:
        place = bisect.bisect_left(ends, number)
        ends[place : place + 1] = [number]
        places.append(place)
    wrong, place = [], len(ends) - 1
    for number, at in zip(reversed(numbers), reversed(places), strict=True):
        if at == place:
            place -= 1
        else:
            wrong.append(number)
    return wrong


def survey(source: Source, index: FrameIndex) -> Survey:
    """Find out which frames of a source can be used.

    Raises:
        MissingFileError, VideoError: it is gone, or no video.
    """
    surveyor = Surveyor(source, index)
    for _ in surveyor:
        pass
    return surveyor.result()


def small_frames(
    source: Source, index: FrameIndex, seen: Survey, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """All frames of a source in one small size ``(T, H, W, 3)``.

    A frame that cannot be used is that before it, or black where none is before it.

    Raises:
        MissingFileError, VideoError: it is gone, or no video.
    """
    frames_THWC = np.zeros((index.info.num_frames, *size, 3), dtype=np.uint8)
    usable_T = ~seen.damaged_T
    for start, end in itertools.pairwise([0, *seen.resized, index.info.num_frames]):
        numbers = start + np.flatnonzero(usable_T[start:end])
        if len(numbers):
            of_part = index.of_size(seen.size_of(int(numbers[0]))) if seen.resized else index
            part = decode(source, frame_indices=numbers, size=size, index=of_part)
            frames_THWC[numbers] = part.frames_THWC
    last_T = np.maximum.accumulate(np.where(usable_T, np.arange(len(usable_T)), 0))
    return frames_THWC[last_T]
