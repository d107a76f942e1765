"""Encode H.264 mp4 that plays everywhere and decodes to the size that was encoded.

What is written is yuv420p with closed groups of pictures and the index at the front (faststart).
Colours use the BT.601 matrix in limited range and say so, because a decoder that ignores the tag
(OpenCV, DALI on CPU) assumes just that. yuv420p needs even sizes: an odd side is padded by
repeating its last pixel, and the true size is kept in the container tag ``nemo_cosmos_size``,
which :func:`nemo_cosmos.video.decode` and :func:`nemo_cosmos.video.probe` honour; other players
show the one repeated row or column.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video.encoders import encoder_options, working_encoders
from nemo_cosmos.video.frames import Video
from nemo_cosmos.video.index.probe import SIZE_KEY

# ITU-T H.273 code points.
_SMPTE170M = 6
_LIMITED_RANGE = 1
_TICKS_PER_S = 90_000


def encode_video(
    path: str | os.PathLike[str],
    video: Video,
    *,
    crf: float = 18,
    preset: str = "medium",
    keyframe_interval: int | None = None,
    encoder: str = "libx264",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a video as an H.264 mp4, whole or not at all.

    The same frames give the same bytes on the same version of the codec.

    Args:
        path: the mp4 to write; replaced when it exists.
        video: frames to write. With ``pts_s`` each frame is shown at its own time.
        crf: x264's constant rate factor: 0 best (but not lossless), 18 visually clean, 51 worst.
        preset: x264's speed, ``ultrafast`` to ``veryslow``.
        keyframe_interval: frames between keyframes; by default two seconds.
        encoder: one of :data:`nemo_cosmos.video.encoders.ENCODERS`, or ``auto`` for the fastest
            that this machine has and that takes this size.
        metadata: container tags, for example a provenance record as JSON text.

    Raises:
        VideoError: timestamps do not increase, or the encoder refuses the frames.
        StorageFullError: no space left; what was at ``path`` before is intact.
    """
    _check(video, path, crf)
    interval = keyframe_interval or max(1, round(2 * video.fps))
    tags = {**(metadata or {}), SIZE_KEY: f"{video.width}x{video.height}"}
    refusal = ""
    with atomic_path(path) as temporary:
        for name in working_encoders(encoder):
            options = encoder_options(name, crf, preset)
            try:
                return _write(temporary, video, name, options, interval, tags)
            except _NotOpenedError as error:  # no frame was read yet, so another can be tried
                refusal = refusal or f"{name}: {error}"
            except av.error.FFmpegError as error:
                if error.errno > 0 and not isinstance(error, ValueError):
                    raise OSError(error.errno, error.strerror) from error
                refusal = f"{name}: {error.strerror}"
                break
        raise VideoError(
            f"The encoder refused {video.num_frames} frames of {video.width}x{video.height} "
            f"at {video.fps:g} fps for '{os.fspath(path)}' ({refusal}). Check the preset "
            f"'{preset}' and the size."
        )


class _NotOpenedError(Exception):
    """An encoder does not take this size or these options, or has no session left."""


def _check(video: Video, path: str | os.PathLike[str], crf: float) -> None:
    if not 0 <= crf <= 51:
        raise VideoError(
            f"crf is {crf}; expected 0 (best) to 51 (worst), for example 18 for a clean picture."
        )
    if video.pts_s is not None and not bool(np.all(np.diff(video.pts_s) > 1 / _TICKS_PER_S)):
        raise VideoError(
            f"The timestamps of the video for '{os.fspath(path)}' do not increase from frame to "
            "frame. Write frames in the order shown, or drop the timestamps: "
            "Video(frames, fps)."
        )


def _write(
    path: os.PathLike[str],
    video: Video,
    encoder: str,
    options: dict[str, str],
    keyframe_interval: int,
    tags: dict[str, str],
) -> None:
    """Mux one video stream into ``path``.

    Raises:
        _NotOpenedError: the encoder cannot be opened for it.
    """
    # use_metadata_tags lets the mp4 muxer keep tags of any name.
    container_options = {"movflags": "+faststart+use_metadata_tags"}
    with av.open(os.fspath(path), "w", format="mp4", options=container_options) as container:
        container.metadata.update(tags)
        rate = Fraction(video.fps).limit_denominator(100_000)
        stream: av.VideoStream = container.add_stream(encoder, rate=rate, options=options)
        stream.height = video.height + video.height % 2
        stream.width = video.width + video.width % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.gop_size = keyframe_interval
        context.colorspace = context.color_primaries = context.color_trc = _SMPTE170M
        context.color_range = _LIMITED_RANGE
        # A fixed number, because the bytes that x264 writes depend on it.
        context.thread_count = 2
        if video.pts_s is not None:
            context.time_base = Fraction(1, _TICKS_PER_S)
        try:
            context.open(strict=False)
        except av.error.FFmpegError as error:
            raise _NotOpenedError(error.strerror) from error
        for frame in _yuv_frames(video, context.time_base or 1 / rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _yuv_frames(video: Video, time_base: Fraction) -> Iterator[av.VideoFrame]:
    # One for all frames: setting up FFmpeg's scaler takes about as long as converting a frame.
    reformatter = VideoReformatter()
    for number, frame_HWC in enumerate(video.frames_THWC):
        picture = av.VideoFrame.from_numpy_buffer(_even(frame_HWC), format="rgb24")
        frame = reformatter.reformat(
            picture,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601.value,  # the matrix of SMPTE 170M
            dst_color_range="MPEG",
        )
        frame.time_base = time_base
        if video.pts_s is None:
            frame.pts = number
        else:
            frame.pts = round(float(video.pts_s[number] - video.pts_s[0]) * _TICKS_PER_S)
        yield frame


def _even(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row or column of an odd side."""
    rows, columns = frame_HWC.shape[0] % 2, frame_HWC.shape[1] % 2
    if rows or columns:
        return np.pad(frame_HWC, ((0, rows), (0, columns), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame_HWC)
