"""What a video file contains, and the exact list of its frames by timestamp.

Frames are found by their presentation timestamps (pts), read from the packets without decoding.
Counting packets or keyframes, or multiplying a frame number by a nominal frame rate, is wrong for
B-frames, edit lists, negative timestamps and variable frame rates; a sorted list of timestamps is
right for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.video.interlace import Deinterlacer, Scan, find_scan
from nemo_cosmos.video.source import Source, open_video, source_name
from nemo_cosmos.video.tone import HDR_TRANSFERS

if TYPE_CHECKING:
    import av

SIZE_KEY = "nemo_cosmos_size"
"""Container tag with the true ``WIDTHxHEIGHT`` of a video that was padded to even sizes."""

_NO_TIMESTAMPS = ("avi",)
#: Anamorphic films have pixels of up to 2:1, half side-by-side stereo of up to 4:1.
_MAX_PIXEL_ASPECT = 8


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
        scan: how it was scanned; see :data:`nemo_cosmos.video.interlace.Scan`. Decoded frames of
            interlaced video are whole.
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

    @property
    def needs_pyav(self) -> bool:
        """Whether other decoders would give wrong pictures of it."""
        return bool(self.hdr) or Deinterlacer.is_needed(self.scan)


@dataclass(frozen=True)
class FrameIndex:
    """Every frame of a video in the order shown, as integers that can be compared exactly.

    Attributes:
        info: the summary.
        pts: ``(T,)`` int64 presentation timestamps in units of ``time_base``, increasing.
        time_base: seconds of one unit.
        keyframe_pts: timestamps at which decoding can start, increasing.
        seekable: whether the packets carry their timestamps; else frames are counted from the
            start, which is slower.
        stored_size: ``(height, width)`` of the coded picture, before cropping and rotation.
        shown_size: ``(height, width)`` that is kept of it, before its pixels are made square and
            before rotation.
        color_space: FFmpeg's number of the YUV matrix (1 is BT.709, 2 unspecified).
    """

    info: VideoInfo
    pts: NDArray[np.int64]
    time_base: Fraction
    keyframe_pts: NDArray[np.int64]
    seekable: bool
    stored_size: tuple[int, int]
    shown_size: tuple[int, int]
    color_space: int

    @property
    def pts_s(self) -> NDArray[np.float64]:
        """Seconds of each frame from the first one."""
        return (self.pts - self.pts[0]).astype(np.float64) * float(self.time_base)

    def keyframe_before(self, pts: int) -> int:
        """Timestamp of the last point at or before ``pts`` where decoding can start."""
        place = int(np.searchsorted(self.keyframe_pts, pts, side="right")) - 1
        return int(self.keyframe_pts[max(place, 0)])


def probe(source: Source) -> VideoInfo:
    """Summarise a video; this reads its packets and decodes at most one frame.

    Args:
        source: a path, a URL, or the bytes of a file.

    Raises:
        MissingFileError: nothing readable is there.
        VideoError: it is empty, truncated, not a video, or has sound only.
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
        pts, keyframe_pts, seekable = _packet_timestamps(container, stream, source)
    if not seekable:
        with open_video(source) as (container, stream):
            pts = _decoded_timestamps(container, stream)
            keyframe_pts = pts[:1]
    with open_video(source) as (container, stream):
        stream.thread_type = "SLICE"  # frame threads would each decode a frame in advance
        first = next(container.decode(stream), None)
        if first is None or len(pts) == 0:
            raise VideoError(
                f"{source_name(source)} has a video stream without a single frame. "
                "The recording was probably cut off; fetch it again or leave it out."
            )
        index = _summarise(container, stream, first, pts, keyframe_pts, seekable, source)
        is_flagged, is_ours = first.interlaced_frame, SIZE_KEY in index.info.metadata
    if not is_flagged and (is_ours or not find_fields):
        return index
    places = keyframe_pts if seekable else keyframe_pts[:1]
    scan = find_scan(source, places, is_flagged)
    return replace(index, info=replace(index.info, scan=scan))


def _packet_timestamps(
    container: av.container.InputContainer, stream: av.VideoStream, source: Source
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Collect the timestamps of all shown frames and of all keyframes from the packets."""
    shown: list[int] = []
    keyframes: list[int] = []
    # AVI stores frames in decoding order and FFmpeg invents timestamps in that order.
    seekable = container.format.name not in _NO_TIMESTAMPS
    for packet in container.demux(stream):
        if packet.size == 0:  # the flush packet at the end
            continue
        if packet.is_corrupt:
            raise VideoError(
                f"{source_name(source)} ends in the middle of a frame (after "
                f"{len(shown)} frames): it is truncated. Check that the download finished, or "
                "leave it out."
            )
        if packet.pts is None:
            seekable = False
            continue
        if packet.is_keyframe:
            keyframes.append(packet.pts)
        # Packets outside the edit list are needed for decoding but never shown.
        if not packet.is_discard:
            shown.append(packet.pts)
    pts = np.unique(np.asarray(shown, dtype=np.int64))
    seekable = seekable and len(pts) == len(shown) and bool(keyframes)
    return pts, np.sort(np.asarray(keyframes, dtype=np.int64)), seekable


def _decoded_timestamps(
    container: av.container.InputContainer, stream: av.VideoStream
) -> NDArray[np.int64]:
    """Timestamps by decoding, for containers whose packets carry none that can be relied on.

    Frames leave the decoder in the order shown. Their timestamps are kept where they are all
    different (sorted, since AVI's are the right set in the wrong order), else a constant rate is
    assumed.
    """
    stamps = [frame.pts for frame in container.decode(stream)]
    if None not in stamps and len(set(stamps)) == len(stamps):
        return np.sort(np.asarray(stamps, dtype=np.int64))
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    step = max(1, round(1 / (rate * stream.time_base)))
    return np.arange(len(stamps), dtype=np.int64) * step


def _summarise(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    first: av.VideoFrame,
    pts: NDArray[np.int64],
    keyframe_pts: NDArray[np.int64],
    seekable: bool,
    source: Source,
) -> FrameIndex:
    """Gather sizes, rate and rotation from the stream and its first frame."""
    rotation = round(first.rotation / 90) * 90 % 360
    shown_height, shown_width = _cropped_size(container.metadata, first.height, first.width)
    square_width = square_pixel_width(shown_width, stream.sample_aspect_ratio, source)
    fps, variable = _frame_rate(pts, stream)
    turned = rotation in (90, 270)
    info = VideoInfo(
        codec=stream.codec_context.name,
        width=shown_height if turned else square_width,
        height=square_width if turned else shown_height,
        fps=fps,
        num_frames=len(pts),
        duration_s=float((pts[-1] - pts[0]) * stream.time_base) + 1 / fps,
        variable_frame_rate=variable,
        rotation=rotation,
        has_audio=bool(container.streams.audio),
        metadata={str(key): str(value) for key, value in container.metadata.items()},
        pixel_format=str(stream.codec_context.pix_fmt),
        hdr=HDR_TRANSFERS.get(int(first.color_trc), ""),
        pixel_aspect=square_width / shown_width,
    )
    return FrameIndex(
        info=info,
        pts=pts,
        time_base=stream.time_base,
        keyframe_pts=keyframe_pts,
        seekable=seekable,
        stored_size=(first.height, first.width),
        shown_size=(shown_height, shown_width),
        color_space=int(first.colorspace),
    )


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


def _frame_rate(pts: NDArray[np.int64], stream: av.VideoStream) -> tuple[float, bool]:
    """Return frames per second and whether the spacing varies.

    Timestamps are integers, so a constant 24 fps in a millisecond time base jitters by a tick;
    frames count as evenly spaced when each lies within a tick or a tenth of a frame of its place.
    """
    declared = float(stream.average_rate or stream.guessed_rate or 0)
    if len(pts) < 2:
        return declared or 24.0, False
    spacing = (pts[-1] - pts[0]) / (len(pts) - 1)
    drift = np.abs(pts - (pts[0] + spacing * np.arange(len(pts))))
    measured = float(1 / (spacing * stream.time_base))
    variable = bool(drift.max() > max(1.5, 0.1 * spacing))
    agrees = declared and abs(declared - measured) <= 0.01 * measured
    return (declared if agrees and not variable else measured), variable
