"""Decode a video: one dispatch in front of PyAV, torchcodec and DALI.

The choice of frames (by number, by time, at another frame rate) and everything that a backend may
get wrong (rotation, cropping, resizing) happen here once, so that the backends cannot disagree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import InputError, VideoError, nearest_names
from nemo_cosmos.platform.device import in_worker_process
from nemo_cosmos.video.backends import dali, pyav, torchcodec
from nemo_cosmos.video.frames import Video
from nemo_cosmos.video.image import is_image, read_image
from nemo_cosmos.video.index.probe import FrameIndex, has_alpha, index_frames
from nemo_cosmos.video.resize import resize_frame, resize_frames
from nemo_cosmos.video.source import Source, source_name

ReadFrames = Callable[[Source, FrameIndex, NDArray[np.int64]], Iterator[NDArray[np.uint8]]]

BACKENDS: dict[str, ReadFrames] = {
    "pyav": pyav.read_frames,
    "torchcodec": torchcodec.read_frames,
    "dali": dali.read_frames,
}
_preferred: ContextVar[str] = ContextVar("preferred_backend", default="auto")


def decode(
    source: Source,
    *,
    frame_indices: Sequence[int] | NDArray[np.integer] | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    backend: str = "auto",
    index: FrameIndex | None = None,
    find_fields: bool = False,
) -> Video:
    """Decode the requested frames of a video; all of them by default.

    Args:
        source: a path, a URL, or the bytes of a file. A PNG, JPEG, WebP or BMP image is a video
            of one frame.
        frame_indices: numbers of frames in the order shown, from 0; any order, repeats allowed.
            Excludes ``start_s``, ``end_s`` and ``fps``.
        start_s: start of the requested span, in seconds from the first frame.
        end_s: end of the requested span (exclusive); by default the end of the video.
        fps: frame rate to resample to, by timestamp: at each ``start_s + k / fps`` the frame that a
            player shows then. By default the frames are not resampled.
        size: ``(height, width)`` to resize to, aspect not kept; see :func:`resize_and_pad`.
        backend: ``pyav``, ``torchcodec``, ``dali``, or ``auto``: the choice of
            :func:`preferred_backend`, else DALI where it finds a GPU and this is no worker of a
            loader, else PyAV. PyAV also decodes what those cannot.
        index: the video's frames where they are known already; by default they are listed first.
        find_fields: whether to look for interlaced frames that no flag announces; see
            :func:`index_frames`.

    Returns:
        The frames, upright, at their true size in square pixels, and deinterlaced. ``pts_s`` is set
        when they are not consecutive frames of a constant rate.

    Raises:
        MissingFileError: nothing readable is there.
        VideoError: it is not a video, is damaged, or has no frame in the requested span.
        InputError: the arguments contradict each other.
        MissingDependencyError: the backend is not installed.
    """
    if is_image(source):
        return _decode_image(source, frame_indices, size)
    index = index or index_frames(source, find_fields)
    if index.info.needs_pyav and backend not in ("pyav", "auto"):
        kind = f"of high dynamic range ({index.info.hdr})" if index.info.hdr else "interlaced"
        kind = "partly transparent" if has_alpha(index.info.pixel_format) else kind
        kind = "mirrored" if index.info.mirrored else kind
        raise VideoError(
            f"{source_name(source)} is {kind}, which the backend '{backend}' cannot convert. Use "
            "'pyav' or 'auto', which tone-map, deinterlace, compose and mirror."
        )
    numbers = _choose_frames(index, source, frame_indices, start_s, end_s, fps)
    wanted, places = np.unique(numbers, return_inverse=True)
    unique_THWC = _read_any(source, index, wanted, size, backend)
    frames_THWC = unique_THWC if np.array_equal(wanted, numbers) else unique_THWC[places]
    if fps is not None:
        return Video(frames_THWC, fps=float(fps))
    consecutive = bool(np.all(np.diff(numbers) == 1)) and not index.info.variable_frame_rate
    return Video(
        frames_THWC, fps=index.info.fps, pts_s=None if consecutive else index.pts_s[numbers]
    )


def stream_frames(
    source: Source, index: FrameIndex, numbers: NDArray[np.int64], size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of :func:`decode` one by one, without holding all of them in memory.

    PyAV decodes them; see :func:`automatic_backend`.

    Args:
        source: the video.
        index: its frames.
        numbers: numbers of frames, not decreasing; repeats allowed.
        size: ``(height, width)`` to resize to.

    Yields:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    wanted, counts = np.unique(numbers, return_counts=True)
    frames = BACKENDS["pyav"](source, index, wanted)
    for stored_HWC, count in zip(frames, counts.tolist(), strict=True):
        frame_HWC = resize_frame(upright(stored_HWC, index, source), size)
        yield from (frame_HWC for _ in range(count))


@contextlib.contextmanager
def preferred_backend(name: str) -> Iterator[None]:
    """Within the block, ``backend="auto"`` means this one wherever it can decode the video.

    Args:
        name: one of :data:`BACKENDS`, or ``auto`` for the choice by device.

    Raises:
        InputError: there is no such backend.
    """
    token = _preferred.set(_check_name(name))
    try:
        yield
    finally:
        _preferred.reset(token)


def automatic_backend() -> str:
    """What ``backend="auto"`` means here, for the videos that it can decode."""
    preferred = _preferred.get()
    if preferred != "auto":
        return preferred
    # Asked first: looking for a GPU fails in a worker that was forked after CUDA was used.
    return "dali" if not in_worker_process() and dali.decodes_on_gpu() else "pyav"


def _check_name(name: str) -> str:
    if name != "auto" and name not in BACKENDS:
        raise InputError(
            f"There is no video backend '{name}'. Valid are 'auto' and "
            f"{nearest_names(name, BACKENDS)}."
        )
    return name


def _read_any(
    source: Source,
    index: FrameIndex,
    wanted: NDArray[np.int64],
    size: tuple[int, int] | None,
    backend: str,
) -> NDArray[np.uint8]:
    """The wanted frames by this backend; with ``auto``, PyAV decodes what the others cannot."""
    if _check_name(backend) != "auto":
        return _read(source, index, wanted, size, BACKENDS[backend])
    preferred = automatic_backend()
    if preferred != "pyav" and not index.info.needs_pyav and index.is_plain:
        with contextlib.suppress(VideoError):
            return _read(source, index, wanted, size, BACKENDS[preferred])
    return _read(source, index, wanted, size, BACKENDS["pyav"])


def _read(
    source: Source,
    index: FrameIndex,
    wanted: NDArray[np.int64],
    size: tuple[int, int] | None,
    read_frames: ReadFrames,
) -> NDArray[np.uint8]:
    """The wanted frames, upright and resized; ``(T, H, W, 3)``."""
    height, width = size or (index.info.height, index.info.width)
    frames_THWC = np.empty((len(wanted), height, width, 3), dtype=np.uint8)
    for row, frame in enumerate(read_frames(source, index, wanted)):
        frames_THWC[row] = resize_frame(upright(frame, index, source), (height, width))
    return frames_THWC


def _decode_image(
    source: Source,
    frame_indices: Sequence[int] | NDArray[np.integer] | None,
    size: tuple[int, int] | None,
) -> Video:
    image = read_image(source)
    numbers = np.zeros(1, int) if frame_indices is None else np.asarray(frame_indices, int)
    _check_range(numbers, 1, source)
    frames_THWC = image.frames_THWC[numbers]
    return Video(frames_THWC if size is None else resize_frames(frames_THWC, size), image.fps)


def _choose_frames(
    index: FrameIndex,
    source: Source,
    frame_indices: Sequence[int] | NDArray[np.integer] | None,
    start_s: float | None,
    end_s: float | None,
    fps: float | None,
) -> NDArray[np.int64]:
    """Turn the request into frame numbers."""
    if frame_indices is not None:
        if (start_s, end_s, fps) != (None, None, None):
            raise InputError(
                "frame_indices was given together with start_s, end_s or fps; expected frames by "
                "number or by time, not both. Leave one out."
            )
        numbers = np.asarray(frame_indices, dtype=np.int64)
        _check_range(numbers, index.info.num_frames, source)
        return numbers
    if fps is not None and not fps > 0:
        raise InputError(f"fps is {fps}; expected a positive number of frames per second.")
    if end_s is None and index.info.lost_s:
        length_s = index.info.duration_s
        raise VideoError(
            f"{source_name(source)} is truncated: it holds the first {length_s:.2f} s of "
            f"{length_s + index.info.lost_s:.2f} s. Check that the download finished, or name an "
            "end."
        )
    return _frames_in_span(index, source, start_s or 0.0, end_s, fps)


def _check_range(numbers: NDArray[np.int64], num_frames: int, source: Source) -> None:
    if len(numbers) == 0:
        raise InputError("frame_indices is empty; expected at least one frame number.")
    if numbers.min() < 0 or numbers.max() >= num_frames:
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise VideoError(
            f"Frame {wrong} was asked of {source_name(source)}, which has frames 0 to "
            f"{num_frames - 1}. Ask for frames in that range."
        )


def _frames_in_span(
    index: FrameIndex, source: Source, start_s: float, end_s: float | None, fps: float | None
) -> NDArray[np.int64]:
    """Frames by time; timestamps are compared with half a tick of tolerance."""
    pts_s = index.pts_s
    tolerance_s = float(index.time_base) / 2
    stop_s = index.info.duration_s if end_s is None else min(end_s, index.info.duration_s)
    if fps is None:
        inside = (pts_s >= start_s - tolerance_s) & (pts_s < stop_s - tolerance_s)
        numbers = np.flatnonzero(inside)
    else:
        # Rounding: 5 s at 30 fps are 150 frames, also where 5.0 arrives as 4.9999999.
        count = int(np.ceil((stop_s - start_s) * fps - 1e-3))
        times_s = start_s + np.arange(max(count, 0)) / fps
        numbers = np.searchsorted(pts_s, times_s + tolerance_s, side="right") - 1
    if start_s < 0 or len(numbers) == 0:
        raise VideoError(
            f"There is no frame from {start_s:g} s to {stop_s:g} s in {source_name(source)}, which "
            f"lasts {index.info.duration_s:g} s. Ask for a span inside it."
        )
    return numbers.astype(np.int64)


def upright(frame_HWC: NDArray[np.uint8], index: FrameIndex, source: Source) -> NDArray[np.uint8]:
    """Crop a stored frame to its true size, rotate and mirror it as the container requires.

    Raises:
        VideoError: it has another size than the frames before.
    """
    if frame_HWC.shape[:2] != index.stored_size:
        raise VideoError(
            f"The picture size of {source_name(source)} changes from {index.stored_size} to "
            f"{frame_HWC.shape[:2]} in the middle; expected one size. Transcode it first."
        )
    height, width = index.shown_size
    turned_HWC = np.rot90(frame_HWC[:height, :width], k=index.info.rotation // 90)
    return turned_HWC[:, ::-1] if index.info.mirrored else turned_HWC
