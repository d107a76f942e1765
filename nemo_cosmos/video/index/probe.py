"""What a video file contains, and the exact list of its frames by timestamp.

Frames are found by their presentation timestamps (pts), read from the packets without decoding.
Counting packets or keyframes, or multiplying a frame number by a nominal frame rate, is wrong for
B-frames, edit lists, negative timestamps and variable frame rates; a sorted list of timestamps is
right for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from av.sidedata.sidedata import Type as SideData
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.video.index.interlace import Deinterlacer, Scan, find_scan
from nemo_cosmos.video.index.length import frame_rate, length_s, lost_s, tidy
from nemo_cosmos.video.index.order import ShownFrames, decoded_frames, timed_frames
from nemo_cosmos.video.index.timestamps import Packets, read_packets, spread_damage
from nemo_cosmos.video.source import Source, decode_packets, open_video, source_name
from nemo_cosmos.video.tone import HDR_TRANSFERS

if TYPE_CHECKING:
    import av

SIZE_KEY = "nemo_cosmos_size"
"""Container tag with the true ``WIDTHxHEIGHT`` of a video that was padded to even sizes."""

#: Anamorphic films have pixels of up to 2:1, half side-by-side stereo of up to 4:1.
_MAX_PIXEL_ASPECT = 8
#: Beginnings of the names of formats with transparency.
_ALPHA_FORMATS = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8")


@dataclass(frozen=True)
class VideoInfo:
    """Summary of a video file.

    Attributes:
        codec: FFmpeg's name, for example ``h264``.
        width: width in square pixels, as shown (after rotation).
        height: height in square pixels, as shown (after rotation).
        fps: frames per second; the mean when the rate varies.
        num_frames: frames that are shown, counted by timestamp.
        duration_s: seconds from the first frame to the end of the last.
        variable_frame_rate: whether frames are unevenly spaced.
        rotation: degrees (0, 90, 180, 270), counter-clockwise, by which a player rotates the stored
            picture.
        has_audio: whether there is a sound stream (which nemo_cosmos ignores).
        metadata: tags of the container.
        pixel_format: FFmpeg's name, for example ``yuv420p10le``.
        hdr: the transfer curve of high dynamic range, ``pq`` or ``hlg``; otherwise empty.
            Decoded frames are tone-mapped to standard range.
        pixel_aspect: width of a stored pixel over its height; 1 for square pixels. Decoded frames
            have square pixels, whatever it is.
        scan: how it was scanned; see :data:`~nemo_cosmos.video.index.interlace.Scan`. Decoded
            frames of interlaced video are whole.
        lost_s: seconds that the container declares beyond the last frame: the end of a truncated
            file.
        mirrored: whether a player changes left and right, after the rotation.
    """

    codec: str
    width: int
    height: int
    fps: float
    num_frames: int
    duration_s: float
    variable_frame_rate: bool
    rotation: int
    has_audio: bool
    metadata: dict[str, str]
    pixel_format: str = ""
    hdr: str = ""
    pixel_aspect: float = 1.0
    scan: Scan = "progressive"
    lost_s: float = 0.0
    mirrored: bool = False

    @property
    def needs_pyav(self) -> bool:
        """Whether other decoders would give wrong pictures of it."""
        is_odd = bool(self.hdr) or has_alpha(self.pixel_format) or self.mirrored
        return is_odd or Deinterlacer.is_needed(self.scan)

    @property
    def declared_s(self) -> float:
        """Seconds of the whole video, also of what is missing at its end."""
        return self.duration_s + self.lost_s


@dataclass(frozen=True)
class FrameIndex:
    """Every frame of a video in the order shown, as integers that can be compared exactly.

    Attributes:
        info: the summary.
        pts: ``(T,)`` int64 presentation timestamps in units of ``time_base``, increasing. Where
            timestamps begin again in the file, these go on.
        time_base: seconds of one unit.
        keyframe_pts: timestamps at which decoding can start, increasing.
        seekable: whether the file is searched by these timestamps; else its packets are counted
            from the start, which is slower.
        stored_size: ``(height, width)`` of the coded picture, before cropping and rotation.
        shown_size: ``(height, width)`` that is kept of it, before its pixels are made square and
            before rotation.
        color_space: FFmpeg's number of the YUV matrix (1 is BT.709, 2 unspecified).
        packet_T: ``(T,)`` place of each frame's packet in the stream.
        group_T: ``(T,)`` the frames that it refers to; see
            :class:`nemo_cosmos.video.index.timestamps.Packets`.
        is_leading_T: ``(T,)`` whether it may refer to the group before as well.
        damaged_T: ``(T,)`` frames that cannot be decoded, as far as packets show it.
        section_T: ``(T,)`` number of times before each frame that timestamps began again.
        stream_index: number of the stream in the container.
        num_video_streams: number of streams of pictures in the container.
    """

    info: VideoInfo
    pts: NDArray[np.int64]
    time_base: Fraction
    keyframe_pts: NDArray[np.int64]
    seekable: bool
    stored_size: tuple[int, int]
    shown_size: tuple[int, int]
    color_space: int
    packet_T: NDArray[np.int64]
    group_T: NDArray[np.int64]
    is_leading_T: NDArray[np.bool_]
    damaged_T: NDArray[np.bool_]
    section_T: NDArray[np.int64]
    stream_index: int = 0
    num_video_streams: int = 1

    @property
    def pts_s(self) -> NDArray[np.float64]:
        """Seconds of each frame from the first one."""
        return (self.pts - self.pts[0]).astype(np.float64) * float(self.time_base)

    @cached_property
    def edges_s(self) -> NDArray[np.float64]:
        """``(T + 1,)`` seconds at which each frame begins, and at which the last one ends.

        Those of an even rate are multiples of its period: timestamps are rounded to ticks.
        """
        if not self.info.variable_frame_rate:
            return np.arange(self.info.num_frames + 1) / self.info.fps
        return np.round(np.append(self.pts_s, self.info.duration_s), 6)

    @property
    def joins(self) -> list[int]:
        """Numbers of the frames at which timestamps begin again."""
        found: list[int] = (np.flatnonzero(np.diff(self.section_T)) + 1).tolist()
        return found

    @property
    def is_plain(self) -> bool:
        """Whether any decoder that counts frames gives the same ones."""
        return self.seekable and self.num_video_streams == 1 and not self.damaged_T.any()

    def span_s(self, start: int, end: int) -> tuple[float, float]:
        """When frame ``start`` begins and the frame before ``end`` ends, in seconds."""
        return float(self.edges_s[start]), float(self.edges_s[end])

    def fps_of(self, start: int, end: int) -> float:
        """Frames per second of a span; the mean when the rate varies."""
        if not self.info.variable_frame_rate or end - start < 2:
            return self.info.fps
        length_s = float(self.edges_s[end - 1] - self.edges_s[start])
        return tidy((end - 1 - start) / length_s) if length_s > 0 else self.info.fps

    def of_size(self, stored_size: tuple[int, int]) -> FrameIndex:
        """The same frames, for a part of the file whose pictures are stored in another size."""
        height, width = stored_size
        if self.info.pixel_aspect != 1:
            width = max(2, 2 * round(width * self.info.pixel_aspect / 2))
        height, width = (width, height) if self.info.rotation in (90, 270) else (height, width)
        info = replace(self.info, height=height, width=width)
        return replace(self, info=info, stored_size=stored_size, shown_size=stored_size)

    def keyframe_before(self, pts: int) -> int:
        """Timestamp of the last point at or before ``pts`` where decoding can start."""
        place = int(np.searchsorted(self.keyframe_pts, pts, side="right")) - 1
        return int(self.keyframe_pts[max(place, 0)])

    def with_damage(self, bad_T: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Frames that cannot be used when these, too, turned out to be missing or damaged."""
        bad_T = bad_T | self.damaged_T
        return spread_damage(bad_T, self.packet_T, self.group_T, self.is_leading_T)


def has_alpha(pixel_format: str) -> bool:
    """Whether FFmpeg's pixel format of this name has a channel of transparency."""
    return pixel_format.startswith(_ALPHA_FORMATS)


def probe(source: Source) -> VideoInfo:
    """Summarise a video; this reads its packets and decodes its first frame.

    Args:
        source: a path, a URL, or the bytes of a file.

    Raises:
        MissingFileError: nothing readable is there.
        VideoError: it is empty, not a video, has sound only, or not a frame can be decoded.
    """
    return index_frames(source).info


def index_frames(source: Source, find_fields: bool = False) -> FrameIndex:
    """List the frames of a video by timestamp; see :class:`FrameIndex` and :func:`probe`.

    Args:
        source: a path, a URL, or the bytes of a file.
        find_fields: whether to look for interlaced frames in some pictures also where no flag says
            that there are any. This decodes about twenty frames.
    """
    with open_video(source) as (container, stream):
        packets = read_packets(container, stream)
    if packets.is_encrypted:
        raise VideoError(
            f"The pictures of {source_name(source)} are encrypted (Common Encryption). Decrypt it "
            "first."
        )
    if not packets.is_timed:
        with open_video(source) as (container, stream):
            frames = decoded_frames(container, stream, packets)
    else:
        frames = timed_frames(packets)
    with open_video(source) as (container, stream):
        stream.thread_type = "SLICE"  # frame threads would each decode a frame in advance
        first = next(decode_packets(container, stream), None)
        if first is None or len(frames.pts) == 0:
            raise VideoError(
                f"{source_name(source)} has a video stream without a single frame that can be "
                "decoded. The recording was probably cut off; fetch it again or leave it out."
            )
        index = _summarise(container, stream, first, frames, packets, source)
        is_flagged, is_ours = first.interlaced_frame, SIZE_KEY in index.info.metadata
    if not is_flagged and (is_ours or not find_fields):
        return index
    damaged_pts = set(index.pts[index.damaged_T].tolist()) if index.seekable else set()
    scan = find_scan(source, index.keyframe_pts, is_flagged, damaged_pts)
    if scan == "unsure" and not index.seekable and index.damaged_T.any():
        # Spoilt pictures, which look combed, cannot be left out here.
        scan = "progressive"
    return replace(index, info=replace(index.info, scan=scan))


def declared_s(source: Source) -> float:
    """Length in seconds that a file declares, also where nothing in it can be decoded; else 0."""
    try:
        with open_video(source) as (container, _):
            return max(0.0, float((container.duration or 0) / 1_000_000))
    except VideoError:
        return 0.0


def _summarise(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    first: av.VideoFrame,
    frames: ShownFrames,
    packets: Packets,
    source: Source,
) -> FrameIndex:
    """Gather sizes, rate and rotation from the stream and its first frame."""
    rotation, mirrored = _turn(first)
    shown_height, shown_width = _cropped_size(container.metadata, first.height, first.width)
    square_width = square_pixel_width(shown_width, stream.sample_aspect_ratio, source)
    pts = frames.pts
    fps, variable = frame_rate(pts, stream)
    turned = rotation in (90, 270)
    duration_s = length_s(pts, fps, variable, stream)
    info = VideoInfo(
        codec=stream.codec_context.name,
        width=shown_height if turned else square_width,
        height=square_width if turned else shown_height,
        fps=fps,
        num_frames=len(pts),
        duration_s=duration_s,
        variable_frame_rate=variable,
        rotation=rotation,
        has_audio=bool(container.streams.audio),
        metadata={str(key): str(value) for key, value in container.metadata.items()},
        pixel_format=str(stream.codec_context.pix_fmt),
        hdr=HDR_TRANSFERS.get(int(first.color_trc), ""),
        pixel_aspect=square_width / shown_width,
        lost_s=lost_s(container, stream, pts, duration_s),
        mirrored=mirrored,
    )
    return FrameIndex(
        info=info,
        pts=pts,
        time_base=stream.time_base,
        keyframe_pts=packets.keyframe_pts if packets.is_seekable else pts[:1],
        seekable=packets.is_seekable,
        stored_size=(first.height, first.width),
        shown_size=(shown_height, shown_width),
        color_space=int(first.colorspace),
        packet_T=frames.packet_T,
        group_T=frames.group_T,
        is_leading_T=frames.is_leading_T,
        damaged_T=spread_damage(
            frames.is_bad_T, frames.packet_T, frames.group_T, frames.is_leading_T
        ),
        section_T=frames.section_T,
        stream_index=stream.index,
        num_video_streams=len(container.streams.video),
    )


def _turn(first: av.VideoFrame) -> tuple[int, bool]:
    """Degrees counter-clockwise to the nearest quarter, and whether left and right change then."""
    matrix = first.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return 0, False
    # FFmpeg's rotation of a matrix that mirrors, as those of front cameras, is upside down.
    a, b, _, c, d = np.frombuffer(matrix, dtype="<i4")[:5].tolist()
    mirrored = a * d - b * c < 0
    degrees = -math.degrees(math.atan2(b, -a if mirrored else a))
    return round(degrees / 90) * 90 % 360, mirrored


def _cropped_size(metadata: dict[str, str], height: int, width: int) -> tuple[int, int]:
    """Undo the padding of :func:`nemo_cosmos.video.encode_video`, never more than one pixel."""
    parts = metadata.get(SIZE_KEY, "").split("x")
    if len(parts) == 2 and all(part.isdigit() for part in parts):
        true_width, true_height = int(parts[0]), int(parts[1])
        if 0 <= width - true_width <= 1 and 0 <= height - true_height <= 1:
            return true_height, true_width
    return height, width


def square_pixel_width(width: int, pixel_aspect: Fraction | None, source: Source) -> int:
    """The width of a picture whose pixels are made square; its height stays.

    A width that changes becomes even, as encoders want it: 720 pixels of 32:27 become 854.

    Raises:
        VideoError: the aspect is beyond anything that is recorded, so it is a mistake of the file.
    """
    if not pixel_aspect or pixel_aspect == 1:  # nearly every file; 0 and None are "unknown"
        return width
    if not 1 / _MAX_PIXEL_ASPECT <= pixel_aspect <= _MAX_PIXEL_ASPECT:
        raise VideoError(
            f"{source_name(source)} declares pixels of {pixel_aspect.numerator}:"
            f"{pixel_aspect.denominator} (width to height), expected 1:{_MAX_PIXEL_ASPECT} to "
            f"{_MAX_PIXEL_ASPECT}:1. Correct the file, for example with "
            "'ffmpeg -i IN -c copy -aspect 16:9 OUT'."
        )
    exact = width * pixel_aspect
    return width if abs(exact - width) < 1 else max(2, 2 * round(exact / 2))
