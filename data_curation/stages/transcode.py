"""Transcode: each span becomes an H.264 mp4 of constant rate, with its sidecars cut to the span.

A source that fits already (H.264 in yuv420p, constant rate, upright, small enough) and is not cut
is kept as it is; only its sound is left out. Every frame is decoded in any case, so that a clip
that leaves this stage is known to be whole, and its content has a checksum.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from data_curation.sidecars import cut_arrays
from data_curation.stages.base import (
    Clip,
    Rejection,
    Resources,
    Result,
    Stage,
    StageSettings,
    setting,
)
from data_curation.store import ClipStore
from nemo_cosmos.errors import SampleError, VideoError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import Video, VideoInfo, decode, encode_video

#: Decoded frames that are held in memory at once.
CHUNK_BYTES = 512 * 1024 * 1024
CRF = 18.0


@dataclass(frozen=True)
class TranscodeSettings(StageSettings):
    """How clips are encoded.

    Attributes:
        short_side_px: larger videos are scaled down to this shorter side; 0 keeps every size.
        crf: x264's quality, 0 best to 51 worst.
    """

    short_side_px: int = setting(
        0, "Scale down to this shorter side in pixels; 0 keeps the size.", flag="--short-side"
    )
    crf: float = setting(CRF, "H.264 quality, 0 best to 51 worst.", flag="--crf")

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return TranscodeStage(self, store)


class TranscodeStage(Stage):
    """Writes the finished clip and its sidecars into the store."""

    name = "transcode"
    inputs = ("info", "start_frame", "end_frame", "clip_id")
    outputs = ("fps", "num_frames", "width", "height", "suffixes", "content_sha256")
    resources = Resources(cpus=2.0, memory_gb=2.0)

    def __init__(self, settings: TranscodeSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store

    def process(self, clip: Clip) -> Result:
        """Encode, copy or reject one span."""
        assert clip.info is not None
        try:
            arrays = cut_arrays(clip.source, clip.info.num_frames, clip.start_frame, clip.end_frame)
        except SampleError as error:
            return Rejection.of(clip, self.name, "sidecar", str(error))
        frames = FrameStream(clip, self.settings.short_side_px)
        path = self._store.path(clip.clip_id, "mp4")
        try:
            if clip.whole and fits(clip.source, clip.info, frames.size):
                for _ in frames:  # decode everything: a damaged stream is found here
                    pass
                _copy(clip.source, clip.info, path)
            else:
                # The encoder reads the frames once, one by one, so that a stream will do.
                encode_video(path, cast("Video", frames), crf=self.settings.crf)
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))
        for suffix, content in arrays.items():
            self._store.put(clip.clip_id, suffix, content)
        self._store.put_thumbnail(clip.clip_id, frames.middle_HWC)
        return replace(
            clip,
            fps=clip.info.fps,
            num_frames=frames.num_frames,
            width=frames.width,
            height=frames.height,
            suffixes=("mp4", *arrays),
            content_sha256=frames.sha256,
        )


class FrameStream:
    """The frames of a span, decoded chunk by chunk; looks like a :class:`Video` that is read once.

    Frames of a variable rate follow each other at the mean rate: none is dropped or repeated, so
    that per-frame sidecars stay in step.

    Args:
        clip: source and span.
        short_side_px: scale down to this shorter side; 0 keeps the size.
    """

    def __init__(self, clip: Clip, short_side_px: int) -> None:
        assert clip.info is not None
        self._clip = clip
        self.size = scaled_size(clip.info, short_side_px)
        self.height, self.width = self.size
        self.num_frames = clip.end_frame - clip.start_frame
        self.fps = clip.info.fps
        self.pts_s = None
        self.middle_HWC = np.zeros((1, 1, 3), dtype=np.uint8)
        self._digest = hashlib.sha256(repr((self.size, round(self.fps, 3))).encode())

    @property
    def frames_THWC(self) -> FrameStream:
        """Itself, to be iterated over."""
        return self

    @property
    def sha256(self) -> str:
        """Checksum of size, rate and all frames that were read."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames ``(H,W,3)``, uint8 RGB, in order.

        Raises:
            VideoError: a frame cannot be decoded.
        """
        chunk = max(1, CHUNK_BYTES // (3 * self.height * self.width))
        middle = (self._clip.start_frame + self._clip.end_frame) // 2
        for first in range(self._clip.start_frame, self._clip.end_frame, chunk):
            numbers = range(first, min(first + chunk, self._clip.end_frame))
            frames = decode(self._clip.source, frame_indices=numbers, size=self.size).frames_THWC
            for number, frame_HWC in zip(numbers, frames, strict=True):
                self._digest.update(np.ascontiguousarray(frame_HWC).data)
                if number == middle:
                    self.middle_HWC = frame_HWC.copy()
                yield frame_HWC


def scaled_size(info: VideoInfo, short_side_px: int) -> tuple[int, int]:
    """``(height, width)`` after scaling down to a shorter side, both even when scaled."""
    short_side = min(info.height, info.width)
    if short_side_px <= 0 or short_side <= short_side_px:
        return info.height, info.width
    scale = short_side_px / short_side
    return 2 * max(1, round(info.height * scale / 2)), 2 * max(1, round(info.width * scale / 2))


def fits(source: Path, info: VideoInfo, size: tuple[int, int]) -> bool:
    """Whether a stream can be kept: H.264, yuv420p, constant rate, upright, and of this size."""
    if info.codec != "h264" or info.variable_frame_rate or info.rotation:
        return False
    with av.open(os.fspath(source)) as container:
        pixel_format = container.streams.video[0].codec_context.pix_fmt
    return pixel_format == "yuv420p" and (info.height, info.width) == size


def _copy(source: Path, info: VideoInfo, target: Path) -> None:
    """Keep the file, or only its pictures when it holds more than one stream or is no mp4."""
    with av.open(os.fspath(source)) as container:
        is_plain = len(container.streams) == 1 and "mp4" in container.format.name.split(",")
        content = source.read_bytes() if is_plain else _remux(container, info)
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def _remux(container: Any, info: VideoInfo) -> bytes:
    """The first video stream in an mp4 of its own, not re-encoded."""
    buffer = io.BytesIO()
    source = container.streams.video[0]
    options = {"movflags": "+use_metadata_tags"}
    with av.open(buffer, "w", format="mp4", options=options) as output:
        output.metadata.update(info.metadata)
        stream = output.add_stream_from_template(source)
        for packet in container.demux(source):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return buffer.getvalue()
