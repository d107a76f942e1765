"""Cut clips into windows of exactly N frames, together with their signals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.batch import view_suffix
from nemo_cosmos.controls import (
    Signal,
    TimeAxes,
    Values,
    decode_arrays,
    encode_arrays,
    fit_recorded,
    infer_signal,
    known_signal,
    undeclared_axes,
)
from nemo_cosmos.controls.rig import LAYOUT_VIDEO, RIG
from nemo_cosmos.data.augmentation.change import Change
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
        frames_THWC: ``(V N, H, W, 3)`` uint8: the N frames of each view, one view after another.
        change: what was done to the frames, of a changed copy.
        layout_THWC: the frames of the layout videos in the same order; None without them.
    """

    clip: Sample
    record: ClipRecord
    start: int
    frames_THWC: NDArray[np.uint8]
    change: Change | None = None
    layout_THWC: NDArray[np.uint8] | None = None


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
    names = [view_suffix(record.views, view) for view in record.views]
    if has_layout := LAYOUT_VIDEO in clip.members:
        names += [view_suffix(record.views, view, LAYOUT_VIDEO) for view in record.views]
    encoded = dict(zip(names, clip.read_files(names), strict=True))
    inner = fitted_size(record.height, record.width, size)
    most_frames = MAX_DECODED_BYTES // (3 * size[0] * size[1] * len(names))
    frames_at_once = max(window_frames, most_frames)
    while starts:
        group = [start for start in starts if start + window_frames <= starts[0] + frames_at_once]
        numbers = np.arange(group[0], group[-1] + window_frames)
        fitted = [
            resize_and_pad(decode_frames(content, numbers, inner, clip.where, name), size)
            for name, content in encoded.items()
        ]
        _, mask_HW = fitted[0]
        for start in group:
            place = start - group[0]
            cut = window_record(record, start, window_frames, size)
            changed = cut.with_changes(**{PADDING_BOX: list(content_box(mask_HW))})
            shown = [frames_THWC[place : place + window_frames] for frames_THWC, _ in fitted]
            views, layouts = shown[: len(record.views)], shown[len(record.views) :]
            yield Window(
                clip,
                changed,
                start,
                _joined(views),
                layout_THWC=_joined(layouts) if has_layout else None,
            )
        starts = starts[len(group) :]


def _joined(views: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The frames of all views, one view after another."""
    return views[0] if len(views) == 1 else np.concatenate(views)


def decode_frames(
    encoded: bytes, numbers: NDArray[np.int64], size: Size | None, where: str, name: str = "mp4"
) -> NDArray[np.uint8]:
    """Decode some frames of a clip.

    Args:
        encoded: the clip's mp4.
        numbers: numbers of the frames.
        size: height and width to resize them to; None for their own.
        where: the sample, for messages.
        name: the suffix of its file.

    Raises:
        SampleError: the clip is damaged, or has fewer frames.
    """
    try:
        return decode(encoded, frame_indices=numbers, size=size).frames_THWC
    except VideoError as error:
        raise SampleError(f"The {name} of {where} cannot be cut into windows: {error}") from error


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
    source = (clip.record.height, clip.record.width)
    shown = source if window.change is None else window.change.picture(source).kept_size
    inner = fitted_size(*shown, size)
    contents: dict[str, bytes] = {}
    axes: dict[str, TimeAxes] = {}
    for suffix in clip.members:
        if not suffix.endswith((".npy", ".npz")):
            continue
        declared, recorded = known_signal(suffix), clip.record.time_axes(suffix)
        values = decode_arrays(suffix, clip.read(suffix), clip.where)
        signal = infer_signal(suffix, values, num_frames, declared, recorded)
        signal.check(values, num_frames, clip.where)
        if suffix == RIG.suffix:
            _check_rig(values, clip)
        undeclared = undeclared_axes(signal, declared)
        cut = _cut(signal, values, window, undeclared)
        fitted = fit_recorded({signal.name: cut}, inner, size)[signal.name]
        contents[suffix] = encode_arrays(suffix, fitted)
        if undeclared:
            axes[suffix] = undeclared
    record = window.record.with_changes(**{TIME_AXES: axes}) if axes else window.record
    return record, contents


def _check_rig(values: Values, clip: Sample) -> None:
    """Require a rig's rows to be those of the clip's views."""
    views = clip.record.views
    names = tuple(str(name) for name in values.get("names", views))
    if len(values["poses"]) != len(views) or names != views:
        raise SampleError(
            f"The rig of {clip.where} has {len(values['poses'])} cameras ({', '.join(names)}), "
            f"the clip the views {', '.join(views)}; expected the same in the same order. Write "
            "the rig again."
        )


def _cut(signal: Signal, values: Values, window: Window, undeclared: Iterable[str]) -> Values:
    """The part of a signal that belongs to a window, changed as its pictures were.

    Args:
        signal: what the file holds.
        values: its arrays, of the whole clip.
        window: the window.
        undeclared: names of arrays that the file holds beside those of its signal.

    Raises:
        SampleError: nobody has said what becomes of it then.
    """
    num_frames, change = window.record.num_frames, window.change
    if change is None:
        return signal.cut(values, window.start, num_frames)
    clip = window.clip
    try:
        record = change.explained(clip.record.extra)
        picture = change.picture((clip.record.height, clip.record.width), record)
        picked = signal.pick(values, window.start, num_frames, change.speed, record)
        if not picture.is_mirrored and picture.kept_size == picture.size:
            return picked
        if signal.in_picture is not None and (others := ", ".join(undeclared)):
            raise SampleError(
                f"also holds {others}, and nobody has said what becomes of that when pictures are "
                "cut or mirrored. Move it into a file of its own, or tokenize without crop and "
                "flip."
            )
        return signal.follow(picked, picture)
    except SampleError as error:
        raise SampleError(f"'{signal.suffix}' of {clip.where} {error}") from error


def window_record(
    record: ClipRecord, start: int, window_frames: int, size: Size, speed: int = 1
) -> ClipRecord:
    """The record of a window.

    Args:
        record: the clip's.
        start: number of the first frame.
        window_frames: number of frames.
        size: height and width of the window.
        speed: frames of the clip from one to the next.
    """
    begin_s = record.span_s[0] + start / record.fps
    return record.with_changes(
        key=f"{record.key}-w{start:06d}",
        span_s=(begin_s, begin_s + ((window_frames - 1) * speed + 1) / record.fps),
        fps=record.fps / speed,
        num_frames=window_frames,
        height=size[0],
        width=size[1],
        clip_key=record.key,
        start_frame=start,
    )
