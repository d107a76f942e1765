"""One pass of decoding over a source that finds out which of its frames can be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.video import FrameIndex, Source
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
                yield number, frame

    def result(self) -> Survey:
        """What was found; call it after the pass."""
        damaged_T = self._index.with_damage(self._bad_T) if self._bad_T.any() else self._bad_T
        return Survey(damaged_T | self._index.damaged_T, self._size_T2)


def survey(source: Source, index: FrameIndex) -> Survey:
    """Find out which frames of a source can be used.

    Raises:
        MissingFileError, VideoError: it is gone, or no video.
    """
    surveyor = Surveyor(source, index)
    for _ in surveyor:
        pass
    return surveyor.result()
