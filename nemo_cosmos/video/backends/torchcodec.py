"""Decode with torchcodec, which needs FFmpeg's libraries on the system.

torchcodec 0.13 is the release that loads with torch 2.13. It turns rotated video upright by itself,
which is undone here since the dispatch does it, and it loses frames of files with edit lists and
of MPEG transport streams: their timestamps differ from the index, and the file is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import MissingDependencyError, VideoError
from nemo_cosmos.storage import is_url
from nemo_cosmos.video.index.probe import FrameIndex
from nemo_cosmos.video.source import Source, read_bytes, source_name

if TYPE_CHECKING:
    from torchcodec.decoders import VideoDecoder

FRAMES_PER_CALL = 32


def available() -> bool:
    """Whether torchcodec is installed and finds FFmpeg's libraries."""
    try:
        _decoder_class()
    except MissingDependencyError:
        return False
    return True


def read_frames(
    source: Source, index: FrameIndex, wanted: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the wanted frames as stored; see :func:`nemo_cosmos.video.backends.pyav.read_frames`.

    Raises:
        MissingDependencyError: torchcodec is not installed or finds no FFmpeg.
        VideoError: the stream cannot be decoded, or its frames are numbered otherwise.
    """
    decoder_class = _decoder_class()
    local = not isinstance(source, bytes) and not is_url(source)
    try:
        decoder = decoder_class(
            os.fspath(source) if local else read_bytes(source),
            dimension_order="NHWC",
            seek_mode="exact",
        )
        if len(decoder) != index.info.num_frames:
            raise VideoError(
                f"torchcodec counts {len(decoder)} frames in {source_name(source)}, expected "
                f"{index.info.num_frames}. Use backend='pyav'."
            )
        for start in range(0, len(wanted), FRAMES_PER_CALL):
            chunk = wanted[start : start + FRAMES_PER_CALL]
            batch = decoder.get_frames_at(indices=chunk.tolist())
            _check_timestamps(batch.pts_seconds.numpy(), index, chunk, source)
            for frame_HWC in batch.data.numpy():
                yield np.rot90(frame_HWC, k=-index.info.rotation // 90)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(
            f"torchcodec cannot decode {source_name(source)}: {' '.join(str(error).split())[:300]} "
            "Use backend='pyav', which brings its own FFmpeg."
        ) from error


def _check_timestamps(
    found_s: NDArray[np.float64], index: FrameIndex, numbers: NDArray[np.int64], source: Source
) -> None:
    expected_s = index.pts[numbers] * float(index.time_base)
    if np.abs(found_s - expected_s).max() > 0.5 / index.info.fps:
        raise VideoError(
            f"torchcodec gives frames at {found_s[0]:.3f} s and on for {source_name(source)}, "
            f"expected {expected_s[0]:.3f} s and on. Use backend='pyav'."
        )


def _decoder_class() -> type[VideoDecoder]:
    """Import torchcodec; it raises RuntimeError where FFmpeg's libraries are missing."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingDependencyError(
            "backend='torchcodec' needs torchcodec and FFmpeg's libraries: "
            f"{' '.join(str(error).split())[:200]} Install them with 'pip install "
            "torchcodec==0.13.0' and your system's ffmpeg package, or use backend='pyav'."
        ) from error
    return VideoDecoder
