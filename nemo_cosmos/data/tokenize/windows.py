"""Cut clips into windows of exactly N frames, together with their signals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import (
    TimeAxes,
    decode_arrays,
    encode_arrays,
    fit_recorded,
    infer_signal,
    known_signal,
    undeclared_axes,
)
from nemo_cosmos.data.loading.buckets import Size, content_box
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.schema import PADDING_BOX, TIME_AXES, ClipRecord
from nemo_cosmos.errors import SampleError, VideoError
from nemo_cosmos.video import decode, fitted_size, resize_and_pad

MAX_DECODED_BYTES = 512 * 1024**2
"""Most bytes of one clip's frames in memory; longer clips are decoded piece by piece."""


@dataclass(frozen=True)
class Window:
    """Some frames of a clip.

    Attributes:
        clip: the sample that it was cut from.
        record: the window's own record.
        start: number of its first frame in the clip.
        frames_THWC: ``(N, H, W, 3)`` uint8.
    """

    clip: Sample
    record: ClipRecord
    start: int
    frames_THWC: NDArray[np.uint8]


def window_starts(num_frames: int, window_frames: int, stride: int) -> list[int]:
    """Return the first frames of a clip's windows; the last window ends with the clip.

    A clip that is shorter than a window has none.
    """
    last = num_frames - window_frames
    if last < 0:
        return []
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def cut_windows(clip: Sample, window_frames: int, stride: int, size: Size) -> Iterator[Window]:
    """Decode a clip and yield its windows, fitted into ``size`` with reflected borders.

    Args:
        clip: a curated sample.
        window_frames: number of frames N of a window.
        stride: frames between the starts of windows.
        size: height and width of the windows.

    Raises:
        SampleError: the clip is damaged, or has another number of frames than its JSON says.
    """
    record = clip.record
    starts = window_starts(record.num_frames, window_frames, stride)
    if not starts:
        return
    encoded = clip.read("mp4")
    inner = fitted_size(record.height, record.width, size)
    frames_at_once = max(window_frames, MAX_DECODED_BYTES // (3 * size[0] * size[1]))
    while starts:
        group = [start for start in starts if start + window_frames <= starts[0] + frames_at_once]
        numbers = np.arange(group[0], group[-1] + window_frames)
        try:
            frames = decode(encoded, frame_indices=numbers, size=inner).frames_THWC
        except VideoError as error:
            raise SampleError(
                f"The mp4 of {clip.where} cannot be cut into windows: {error}"
            ) from error
        fitted_THWC, mask_HW = resize_and_pad(frames, size)
        for start in group:
            place = start - group[0]
            window_THWC = fitted_THWC[place : place + window_frames]
            changed = _window_record(record, start, window_frames, size, mask_HW)
            yield Window(clip, changed, start, window_THWC)
        starts = starts[len(group) :]


def cut_signals(window: Window) -> tuple[ClipRecord, dict[str, bytes]]:
    """Cut the arrays of a clip to a window; those that count pixels to its pixels.

    Returns:
        The window's record, with the time axes of arrays that no signal declares, and the files'
        contents by suffix.

    Raises:
        SampleError: a file is damaged, holds pickled objects, or does not fit the clip's frames.
        NumericsError: an array holds NaN, infinity or implausible magnitudes.
    """
    clip, num_frames = window.clip, window.clip.record.num_frames
    size = (window.record.height, window.record.width)
    inner = fitted_size(clip.record.height, clip.record.width, size)
    contents: dict[str, bytes] = {}
    axes: dict[str, TimeAxes] = {}
    for suffix in clip.members:
        if not suffix.endswith((".npy", ".npz")):
            continue
        declared, recorded = known_signal(suffix), clip.record.time_axes(suffix)
        values = decode_arrays(suffix, clip.read(suffix), clip.where)
        signal = infer_signal(suffix, values, num_frames, declared, recorded)
        signal.check(values, num_frames, clip.where)
        cut = signal.cut(values, window.start, window.record.num_frames)
        fitted = fit_recorded({signal.name: cut}, inner, size)[signal.name]
        contents[suffix] = encode_arrays(suffix, fitted)
        if undeclared := undeclared_axes(signal, declared):
            axes[suffix] = undeclared
    record = window.record.with_changes(**{TIME_AXES: axes}) if axes else window.record
    return record, contents


def _window_record(
    record: ClipRecord,
    start: int,
    window_frames: int,
    size: Size,
    mask_HW: NDArray[np.uint8],
) -> ClipRecord:
    begin_s = record.span_s[0] + start / record.fps
    return record.with_changes(
        key=f"{record.key}-w{start:06d}",
        span_s=(begin_s, begin_s + window_frames / record.fps),
        num_frames=window_frames,
        height=size[0],
        width=size[1],
        clip_key=record.key,
        start_frame=start,
        **{PADDING_BOX: list(content_box(mask_HW))},
    )
