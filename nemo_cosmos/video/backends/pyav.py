"""Decode with PyAV, whose wheels bring their own FFmpeg: the default everywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.video.image import on_background
from nemo_cosmos.video.index.interlace import Deinterlacer
from nemo_cosmos.video.index.probe import FrameIndex, has_alpha
from nemo_cosmos.video.source import Source, decode_packets, explained, open_video, source_name
from nemo_cosmos.video.tone import tone_map


def read_frames(
    source: Source, index: FrameIndex, wanted: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the wanted frames as stored (not cropped, not rotated).

    Args:
        source: the file.
        index: its frames.
        wanted: frame numbers, increasing, without repeats.

    Yields:
        ``(H, W, 3)`` uint8 RGB, in the order of ``wanted``.

    Raises:
        VideoError: a wanted frame cannot be decoded or is damaged.
    """
    to_rgb = RgbConverter(index)
    with ForwardReader(source, index, wanted) as reader:
        for number in wanted.tolist():
            yield to_rgb(reader.read(number))


class RgbConverter:
    """Converts decoded frames of one file to RGB.

    FFmpeg's scaler is set up once for all frames: that takes longer than converting one.

    Args:
        index: the file's frames.
    """

    def __init__(self, index: FrameIndex) -> None:
        self._hdr = index.info.hdr
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """``(H, W, 3)`` uint8 RGB, tone-mapped from high dynamic range."""
        if self._hdr:
            return tone_map(frame.to_ndarray(format="rgb48le"), self._hdr)
        if has_alpha(frame.format.name):
            return on_background(frame.to_ndarray(format="rgba"))
        rgb = self._reformatter.reformat(frame, format="rgb24")
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)


class ForwardReader:
    """Decodes frames of one file by number, front to back; skips to a keyframe where that helps.

    Use it as a context manager.

    Args:
        source: the file.
        index: its frames.
        wanted: numbers of all frames that will be read. In H.264, frames that no other one refers
            to are not decoded unless they are among these, which changes no pixel of the others.
        motion_vectors: export the codec's motion vectors with each frame, which is given as it is
            stored. This decodes on one thread: FFmpeg's frame threads now and then export vectors
            of a half-decoded frame.
    """

    def __init__(
        self,
        source: Source,
        index: FrameIndex,
        wanted: NDArray[np.int64],
        motion_vectors: bool = False,
    ) -> None:
        self._source, self._index = source, index
        self._motion_vectors = motion_vectors
        self._deinterlacer: Deinterlacer | None = None
        if Deinterlacer.is_needed(index.info.scan) and not motion_vectors:
            self._deinterlacer = Deinterlacer(
                self._read_stored, index.info.num_frames, index.info.scan
            )
        self._wanted_pts: set[int] = set()
        self.want(wanted)
        self._stack = ExitStack()
        self._may_seek = True
        self._position_pts = int(index.keyframe_pts[0]) if len(index.keyframe_pts) else 0
        self._frames: Iterator[av.VideoFrame] = iter(())

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The generator refers to this reader and would keep the decoder's threads until the next
        # garbage collection; one in a forked worker would wait for threads that it does not have.
        self._frames = iter(())
        self._deinterlacer = None
        del self._container, self._stream
        self._stack.__exit__(kind, error, trace)

    def want(self, numbers: NDArray[np.int64]) -> None:
        """Announce more frames, before the first one is read."""
        if self._deinterlacer is not None:
            around = np.concatenate([numbers - 1, numbers, numbers + 1])
            numbers = np.unique(np.clip(around, 0, self._index.info.num_frames - 1))
        self._wanted_pts |= set(self._index.pts[numbers].tolist())

    def read(self, number: int) -> av.VideoFrame:
        """The decoded frame of PyAV with that number: one that is wanted, above the last one's.

        Raises:
            VideoError: it cannot be decoded or is damaged.
        """
        if self._deinterlacer is None:
            return self._read_stored(number)
        with explained(self._source):
            return self._deinterlacer.read(number)

    def _read_stored(self, number: int) -> av.VideoFrame:
        """The frame as it is stored: of interlaced video, two fields."""
        with explained(self._source):
            frame = self._by_time(number) if self._index.seekable else self._by_count(number)
        if frame is None or frame.is_corrupt:
            raise VideoError(
                f"Frame {number} of {source_name(self._source)} is damaged or missing; "
                f"{self._index.info.num_frames} frames were expected. Check that the download "
                "finished, or leave the file out."
            )
        return frame

    @property
    def declared_fps(self) -> float:
        """Frames per second as the container declares them; 0 where it does not."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 0)

    @property
    def declared_s(self) -> float:
        """Length in seconds as the container declares it; 0 where it does not."""
        return float((self._container.duration or 0) / av.time_base)

    def _open(self) -> None:
        self._container, self._stream = self._stack.enter_context(open_video(self._source))
        if self._motion_vectors:
            context = self._stream.codec_context
            context.flags2 |= av.codec.context.Flags2.export_mvs
            context.thread_count = 1
        self._frames = self._decode()

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Frames from here on, without those that nobody wants or needs."""
        is_sparse = len(self._wanted_pts) < len(self._index.pts)
        may_skip = is_sparse and self._index.seekable and self._index.info.codec == "h264"
        skip = self._skip_unwanted if may_skip else None
        counts = not self._index.seekable
        return decode_packets(self._container, self._stream, skip, is_counting=counts)

    def _skip_unwanted(self, packet: av.Packet) -> None:
        # Asked for packet by packet: the decoder is some packets ahead of what it returns.
        context = self._stream.codec_context
        context.skip_frame = "DEFAULT" if packet.pts in self._wanted_pts else "NONREF"

    def _by_count(self, number: int) -> av.VideoFrame | None:
        """Decode on to the frame of that packet, where timestamps do not identify it."""
        wanted = int(self._index.packet_T[number])
        for frame in self._frames:
            if frame.pts == wanted:
                return frame
        return None

    def _by_time(self, number: int) -> av.VideoFrame | None:
        """Jump to the keyframe before a frame, unless decoding on is shorter."""
        target = int(self._index.pts[number])
        start = self._index.keyframe_before(target)
        if self._may_seek and start > self._position_pts:
            self._container.seek(start, stream=self._stream)
            self._frames = self._decode()
        frame = self._find(target)
        if frame is None and self._may_seek:
            # Some demuxers land behind the keyframe that was asked for: go from the start.
            self._may_seek = False
            self._open()
            frame = self._find(target)
        self._position_pts = target
        return frame

    def _find(self, target: int) -> av.VideoFrame | None:
        """Decode until the timestamp is met; ``None`` when another that is wanted comes first.

        Others may come out of order where damage has changed a timestamp.
        """
        for frame in self._frames:
            if frame.pts == target:
                return frame
            if frame.pts is not None and frame.pts > target and frame.pts in self._wanted_pts:
                self._frames = itertools.chain([frame], self._frames)  # it will be asked for
                return None
        return None
