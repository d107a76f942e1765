"""Transcode: each span becomes an H.264 mp4 of constant rate, with its sidecars cut to the span.

A source that fits already (H.264 in yuv420p, constant rate, upright, small enough, with closed and
short groups of pictures) and is not cut is kept unchanged; only its sound is removed, and what
says where it was taken. Every frame
is decoded in any case, so that a clip that leaves this stage is known to be whole, and its content
has a checksum. High dynamic range is tone-mapped, pixels are made square, and interlaced frames
are deinterlaced.

A variable rate becomes the mean rate of the clip: each output frame is the one that a player shows
at its time, so that motion keeps its speed. Where sidecars belong to the frames one by one, every
frame is kept instead, and their spacing is evened out.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import index_of, index_source
from data_curation.sidecars import cut_arrays
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.data.schema import TIME_AXES
from nemo_cosmos.errors import NumericsError, SampleError, VideoError
from nemo_cosmos.options import option
from nemo_cosmos.video import FrameIndex, Video, VideoInfo, decode, encode_video, probe
from nemo_cosmos.video.decode import automatic_backend, stream_frames
from nemo_cosmos.video.encoders import ENCODERS, choose_encoder
from nemo_cosmos.video.source import chosen_stream, open_video
from nemo_cosmos.video.tags import has_unreported_boxes, places, without_places

#: Decoded frames that are held in memory at once.
CHUNK_BYTES = 512 * 1024 * 1024
CRF = 18.0
#: Largest shorter side of each profile; 0 for any.
PROFILES = {"source": 0, "720p": 720, "1080p": 1080}


@dataclass(frozen=True)
class TranscodeSettings(StageSettings):
    """How clips are encoded.

    Attributes:
        short_side_px: larger videos are scaled down to this shorter side; 0 keeps every size.
        crf: x264's quality, 0 best to 51 worst.
        profile: ``720p`` or ``1080p``: upper limit of the shorter side, on top of
            ``short_side_px``; ``source`` sets none.
        keyframe_s: longest time between keyframes, at which a reader can start.
        keep_location: whether the tags that say where a video was taken stay.
        encoder: ``auto`` (NVENC where there, else x264, else OpenH264) or one of them by name.

    Raises:
        ConfigError: a value is impossible.
    """

    short_side_px: int = option(
        0,
        "Scale down to this shorter side in pixels; 0 keeps the size.",
        flag="--short-side",
        least=0,
        most=16384,
    )
    crf: float = option(CRF, "H.264 quality, 0 best to 51 worst.", flag="--crf", least=0, most=51)
    profile: str = option(
        "source",
        "Largest picture: 'source' (any), '720p' or '1080p'.",
        flag="--profile",
        choices=tuple(PROFILES),
    )
    keyframe_s: float = option(
        2.0,
        "Longest time between keyframes; shorter is faster to read at random.",
        above=0,
        most=3600,
    )
    keep_location: bool = option(
        False, "Keep the tags that say where a video was taken.", flag="--keep-location"
    )
    encoder: str = option(
        "auto",
        "H.264 encoder: 'auto', 'h264_nvenc', 'libx264' or 'libopenh264'.",
        flag="--encoder",
        choices=("auto", *ENCODERS),
    )

    @property
    def largest_side_px(self) -> int:
        """Largest shorter side that comes out; 0 for any."""
        limits = [limit for limit in (self.short_side_px, PROFILES[self.profile]) if limit]
        return min(limits, default=0)

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return TranscodeStage(self, store)


class TranscodeStage(ClipStage):
    """Writes the finished clip and its sidecars into the store."""

    name = "transcode"
    inputs = ("info", "start_frame", "end_frame", "clip_id")
    outputs = ("fps", "num_frames", "width", "height", "suffixes", "content_sha256", "extra")
    resources = Resources(cpus=1.0, memory_gb=2.0)
    version = 4

    def __init__(self, settings: TranscodeSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store
        if settings.encoder == "h264_nvenc":
            self.resources = self.resources.with_gpu()

    def prepare(self) -> None:
        """Find out whether the encoder works here."""
        choose_encoder(self.settings.encoder)

    def process(self, clip: Clip) -> Result:
        """Encode, copy or reject one span."""
        assert clip.info is not None
        try:
            arrays, axes = cut_arrays(
                clip.arrays, clip.info.num_frames, clip.start_frame, clip.end_frame
            )
        except (SampleError, NumericsError) as error:
            return Rejection.of(clip, self.name, "sidecar", str(error))
        settings = self.settings
        frames = FrameStream(clip, settings.largest_side_px, keep_every_frame=bool(arrays))
        path = self._store.path(clip.clip_id, "mp4")
        try:
            keep = clip.whole and fits(clip.source, clip.info, frames.size, settings.keyframe_s)
            content = copied(clip.source, clip.info, settings.keep_location) if keep else None
            if content is not None:
                for _ in frames:  # decode everything: a damaged stream is found here
                    pass
                self._store.put(clip.clip_id, "mp4", content)
            else:
                # The encoder reads the frames once, one by one, so that a stream will do.
                encode_video(
                    path,
                    cast("Video", frames),
                    crf=settings.crf,
                    keyframe_interval=max(1, round(settings.keyframe_s * frames.fps)),
                    encoder=settings.encoder,
                    metadata=places(clip.info.metadata) if settings.keep_location else None,
                )
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))
        for suffix, content in arrays.items():
            self._store.put(clip.clip_id, suffix, content)
        self._store.put_thumbnail(clip.clip_id, frames.middle_HWC)
        return replace(
            clip,
            fps=frames.fps,
            num_frames=frames.num_frames,
            width=frames.width,
            height=frames.height,
            suffixes=("mp4", *arrays),
            content_sha256=frames.sha256,
            extra={**clip.extra, TIME_AXES: axes} if axes else clip.extra,
        )


class FrameStream:
    """The frames of a span, decoded chunk by chunk; looks like a :class:`Video` that is read once.

    Args:
        clip: source and span.
        short_side_px: scale down to this shorter side; 0 keeps the size.
        keep_every_frame: whether the frames of a variable rate follow each other one by one instead
            of by their times.
    """

    def __init__(self, clip: Clip, short_side_px: int, keep_every_frame: bool = False) -> None:
        assert clip.info is not None
        self._clip = clip
        index, (start, end) = index_of(clip), (clip.start_frame, clip.end_frame)
        self.size = scaled_size(index.info, short_side_px)
        self.height, self.width = self.size
        self._numbers = np.arange(start, end)
        if clip.info.variable_frame_rate and not keep_every_frame:
            self._numbers = frames_by_time(index, start, end)
        self.num_frames = len(self._numbers)
        self.fps = index.fps_of(start, end)
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
        for place, frame_HWC in enumerate(self._frames()):
            self._digest.update(np.ascontiguousarray(frame_HWC).data)
            if place == self.num_frames // 2:
                self.middle_HWC = frame_HWC.copy()
            yield frame_HWC

    def _frames(self) -> Iterator[np.ndarray]:
        """One by one where PyAV decodes; other decoders take many at once."""
        source, index = self._clip.source, index_of(self._clip)
        if automatic_backend() == "pyav" or index.info.needs_pyav:
            yield from stream_frames(source, index, self._numbers, self.size)
            return
        chunk = max(1, CHUNK_BYTES // (3 * self.height * self.width))
        for first in range(0, self.num_frames, chunk):
            numbers = self._numbers[first : first + chunk]
            yield from decode(
                source, frame_indices=numbers, size=self.size, index=index
            ).frames_THWC


def scaled_size(info: VideoInfo, short_side_px: int) -> tuple[int, int]:
    """``(height, width)`` after scaling down to a shorter side, both even when scaled."""
    short_side = min(info.height, info.width)
    if short_side_px <= 0 or short_side <= short_side_px:
        return info.height, info.width
    scale = short_side_px / short_side
    return 2 * max(1, round(info.height * scale / 2)), 2 * max(1, round(info.width * scale / 2))


def frames_by_time(index: FrameIndex, start: int, end: int) -> NDArray[np.int64]:
    """Of a variable rate, the frame that is shown at each tick of the span's mean rate."""
    fps = index.fps_of(start, end)
    begins_s, (start_s, end_s) = index.edges_s[start:end], index.span_s(start, end)
    # Half a frame more or less is a matter of rounding.
    count = max(1, math.floor((end_s - start_s) * fps + 0.499))
    times_s = start_s + np.arange(count) / fps
    # A frame goes to the nearest tick: the times of a telephone's frames tremble.
    places = np.searchsorted(begins_s, times_s + 0.499 / fps, side="right") - 1
    return np.asarray(start + places, dtype=np.int64)


def fits(source: Path, info: VideoInfo, size: tuple[int, int], keyframe_s: float) -> bool:
    """Whether a stream can be kept unchanged.

    It must be progressive H.264 in yuv420p, of constant rate, upright, of this size in square
    pixels, and with keyframes that are near enough to each other and can be started from.
    """
    plain = info.codec == "h264" and info.pixel_format == "yuv420p" and not info.needs_pyav
    steady = not info.variable_frame_rate and not info.rotation and info.pixel_aspect == 1
    if not (plain and steady and (info.height, info.width) == size):
        return False
    index = index_source(source)
    if not index.seekable:  # an mp4 would take over times that are wrong or begin again
        return False
    keyframes_s = (index.keyframe_pts - index.pts[0]) * float(index.time_base)
    gaps_s = np.diff(np.append(keyframes_s, index.info.duration_s))
    # A frame and a half of tolerance, since intervals are whole frames.
    return bool(gaps_s.max() <= keyframe_s + 1.5 / info.fps) and has_closed_groups(source)


def has_closed_groups(source: Path) -> bool:
    """Whether no frame that is shown before a keyframe is stored after it."""
    last_keyframe_pts = None
    with open_video(source) as (container, stream):
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            if last_keyframe_pts is not None and packet.pts < last_keyframe_pts:
                return False
            if packet.is_keyframe:
                last_keyframe_pts = packet.pts
    return True


def copied(source: Path, info: VideoInfo, keep_location: bool = False) -> bytes | None:
    """The file, or only its pictures when it holds more than one stream or is no mp4.

    None where an mp4 would show other frames, such as those before the time zero.

    Args:
        source: the file.
        info: its description.
        keep_location: whether it may say where it was taken.
    """
    tags = info.metadata if keep_location else without_places(info.metadata)
    with av.open(os.fspath(source)) as container:
        is_plain = len(container.streams) == 1 and "mp4" in container.format.name.split(",")
        if is_plain and not keep_location:
            is_plain = tags == info.metadata and not has_unreported_boxes(source)
        content = source.read_bytes() if is_plain else _remux(container, tags)
    try:
        kept = probe(content)
    except VideoError:
        return None
    same = (kept.num_frames, round(kept.fps, 3)) == (info.num_frames, round(info.fps, 3))
    return content if same else None


def _remux(container: av.container.InputContainer, tags: Mapping[str, str]) -> bytes:
    """The video stream in an mp4 of its own, not re-encoded."""
    buffer = io.BytesIO()
    source = chosen_stream(container)
    assert source is not None
    options = {"movflags": "+use_metadata_tags"}
    with av.open(buffer, "w", format="mp4", options=options) as output:
        output.metadata.update(tags)
        stream = output.add_stream_from_template(source)
        for packet in container.demux(source):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return buffer.getvalue()
