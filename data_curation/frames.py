"""Frames of a finished clip, decoded once and shared by all stages that look at it.

Stages want different frames in different sizes. While a clip is open, it is decoded front to back,
only as far as some stage has asked; frames that later stages will ask for are kept on the way, as
the decoder left them (YUV), up to a budget of bytes. What did not fit is decoded again. So a clip
that a stage rejects early costs nothing more, a long clip does not fill the memory, and every stage
sees the very pixels of :func:`nemo_cosmos.video.decode`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.video import FrameIndex, decode, index_frames, resize_frame
from nemo_cosmos.video.backends.pyav import ForwardReader, RgbConverter
from nemo_cosmos.video.decode import automatic_backend, upright

if TYPE_CHECKING:
    import av

    from data_curation.clip import Clip

#: Decoded frames of a clip that are kept for later stages.
BUDGET_BYTES = 256 * 1024 * 1024
Numbers = NDArray[np.int64]


class OpenClip:
    """One encoded clip.

    Use it as a context manager.

    Args:
        content: the mp4 file.
        wanted: numbers of the frames that each stage will ask for; only these are kept.
        budget_bytes: most bytes of decoded frames to keep.
    """

    def __init__(
        self,
        content: bytes,
        wanted: Iterable[Sequence[int] | Numbers] = (),
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        self.content = content
        #: Announced requests of each frame that are still to come.
        self._requests = Counter(
            number for numbers in wanted for number in np.unique(np.asarray(numbers, int)).tolist()
        )
        #: Frames that the one pass decodes: those that are announced when it begins.
        self._passed = set(self._requests)
        self._budget_bytes = budget_bytes
        self._kept: dict[int, av.VideoFrame] = {}
        self._kept_bytes = 0
        self._position = -1
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and drop the frames that were kept."""
        self._kept.clear()
        self._stack.close()

    @cached_property
    def index(self) -> FrameIndex:
        """All frames of the clip.

        Raises:
            VideoError: it is not a video, or is damaged.
        """
        return index_frames(self.content)

    def read(
        self, numbers: Sequence[int] | Numbers, size: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """The frames ``(T, H, W, 3)`` as :func:`nemo_cosmos.video.decode` gives them.

        Args:
            numbers: numbers of frames in the order shown; any order, repeats allowed.
            size: ``(height, width)`` to resize to.

        Raises:
            VideoError: a frame cannot be decoded.
        """
        asked = np.asarray(numbers, dtype=np.int64)
        unique, places = np.unique(asked, return_inverse=True)
        if not self._is_shared or not self._can_read(unique):
            for number in unique.tolist():
                self._answered(number)
            return decode(
                self.content, frame_indices=asked, size=size, index=self.index
            ).frames_THWC
        shown_size = size or (self.index.info.height, self.index.info.width)
        frames_THWC = np.empty((len(unique), *shown_size, 3), dtype=np.uint8)
        for row, frame in enumerate(self._frames(unique.tolist())):
            stored_HWC = self._to_rgb(frame)
            frames_THWC[row] = resize_frame(
                upright(stored_HWC, self.index, self.content), shown_size
            )
        return frames_THWC if np.array_equal(unique, asked) else frames_THWC[places]

    @property
    def _is_shared(self) -> bool:
        """Whether frames come from the one pass: only PyAV decodes frame by frame."""
        alone = automatic_backend() != "pyav" or self.index.info.needs_pyav
        return bool(self._requests) and not alone

    def _can_read(self, numbers: Numbers) -> bool:
        """Whether all these frames are kept or still to come."""
        return len(numbers) > 0 and all(map(self._is_ahead, numbers.tolist()))

    def _is_ahead(self, number: int) -> bool:
        ahead = number in self._passed and self._position < number < self.index.info.num_frames
        return ahead or number in self._kept

    def _frames(self, numbers: Sequence[int]) -> Iterator[av.VideoFrame]:
        for number in numbers:
            yield self._frame(number)
            self._answered(number)

    def _frame(self, number: int) -> av.VideoFrame:
        """A frame that is kept or ahead; on the way to it, keep what others will ask for."""
        if number in self._kept:
            return self._kept[number]
        ahead = (each for each in self._requests if self._position < each < number)
        for passed in sorted(ahead):
            self._keep(passed, self._next(passed))
        frame = self._next(number)
        if self._requests[number] > 1:
            self._keep(number, frame)
        return frame

    def _next(self, number: int) -> av.VideoFrame:
        self._position = number
        return self._reader.read(number)

    def _keep(self, number: int, frame: av.VideoFrame) -> None:
        size_bytes = _size_bytes(frame)
        if self._kept_bytes + size_bytes <= self._budget_bytes:
            self._kept[number] = frame
            self._kept_bytes += size_bytes

    def _answered(self, number: int) -> None:
        """Count a request as answered; drop the frame after its last one."""
        self._requests[number] -= 1
        if self._requests[number] <= 0:
            del self._requests[number]
            frame = self._kept.pop(number, None)
            self._kept_bytes -= _size_bytes(frame) if frame is not None else 0

    @cached_property
    def _reader(self) -> ForwardReader:
        inside = [number for number in self._passed if 0 <= number < self.index.info.num_frames]
        wanted = np.array(sorted(inside), dtype=np.int64)
        reader = ForwardReader(self.content, self.index, wanted)
        return self._stack.enter_context(reader)

    @cached_property
    def _to_rgb(self) -> RgbConverter:
        return RgbConverter(self.index)


def index_source(source: Path) -> FrameIndex:
    """The frames of a source, listed once for all stages and clips that ask for them.

    Raises:
        MissingFileError, VideoError: as for :func:`nemo_cosmos.video.index_frames`.
    """
    if not source.exists():
        return index_frames(source)  # which says what is wrong
    stat = source.stat()
    return _index_version(source, stat.st_size, stat.st_mtime_ns)


def index_of(clip: Clip) -> FrameIndex:
    """The frames of a clip's source, with the size that they have in the clip's span."""
    index = index_source(clip.source)
    return index.of_size(clip.stored_size) if any(clip.stored_size) else index


@lru_cache(maxsize=2)
def _index_version(source: Path, size_bytes: int, modified_ns: int) -> FrameIndex:
    return index_frames(source, find_fields=True)


def spread(num_frames: int, count: int) -> Numbers:
    """Numbers of ``count`` frames in the middles of equal parts of a clip."""
    return np.asarray((np.arange(count) + 0.5) * num_frames / count, dtype=np.int64)


def _size_bytes(frame: av.VideoFrame) -> int:
    return sum(plane.buffer_size for plane in frame.planes)
