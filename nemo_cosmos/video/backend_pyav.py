"""Decode with PyAV, whose wheels bring their own FFmpeg: the default everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.video.probe import FrameIndex
from nemo_cosmos.video.source import Source, open_video, source_name
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
    frames = _seek_and_decode if index.seekable else _count_and_decode
    for number, frame in zip(wanted, frames(source, index, wanted), strict=True):
        if frame is None or frame.is_corrupt:
            raise VideoError(
                f"Frame {number} of {source_name(source)} is damaged or missing; "
                f"{index.info.num_frames} frames were expected. Check that the download finished, "
                "or leave the file out."
            )
        if index.info.hdr:
            yield tone_map(frame.to_ndarray(format="rgb48le"), index.info.hdr)
        else:
            yield frame.to_ndarray(format="rgb24")


def _count_and_decode(
    source: Source, index: FrameIndex, wanted: NDArray[np.int64]
) -> Iterator[Any | None]:
    """Decode from the start and count, where packets carry no timestamps."""
    with open_video(source) as (container, stream):
        frames = enumerate(container.decode(stream))
        for number in wanted:
            yield next((frame for place, frame in frames if place == number), None)


def _seek_and_decode(
    source: Source, index: FrameIndex, wanted: NDArray[np.int64]
) -> Iterator[Any | None]:
    """Jump to the keyframe before each wanted frame, unless decoding on is shorter."""
    with ExitStack() as stack:
        container, stream = stack.enter_context(open_video(source))
        frames: Iterator[Any] = container.decode(stream)
        position = int(index.keyframe_pts[0])
        may_seek = True
        for target in index.pts[wanted].tolist():
            start = index.keyframe_before(target)
            if may_seek and start > position:
                container.seek(start, stream=stream)
                frames = container.decode(stream)
            frame = _find(frames, target)
            if frame is None and may_seek:
                # Some demuxers land behind the keyframe that was asked for: go from the start.
                may_seek = False
                container, stream = stack.enter_context(open_video(source))
                frames = container.decode(stream)
                frame = _find(frames, target)
            position = target
            yield frame


def _find(frames: Iterator[Any], target: int) -> Any | None:
    """Decode until the timestamp is met; ``None`` when it is passed."""
    for frame in frames:
        if frame.pts is not None and frame.pts >= target:
            return frame if frame.pts == target else None
    return None
