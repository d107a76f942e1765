"""Read the recordings that a world model is tried on: folders of episodes, or shards.

A folder holds ``{key}.mp4`` with ``{key}.json`` (``caption``) and the files of the signals
(``{key}.action.npy``) beside it, as ``nemo-cosmos simulate`` and ``convert`` write them; shards
hold the same as tars. Of each recording the first frames are taken, as many as the model makes. A
recording of several cameras names them in its JSON (``views``), and each further one has a
``{key}.{view}.mp4``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from nemo_cosmos.batch import DEFAULT_VIEWS, Views, view_suffix
from nemo_cosmos.controls import (
    LAYOUT,
    RIG,
    Signal,
    Values,
    decode_arrays,
    fit_recorded,
    read_signal,
)
from nemo_cosmos.controls.rig import LAYOUT_VIDEO
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.schema import views_of
from nemo_cosmos.data.shards.index import load_index
from nemo_cosmos.data.shards.writer import list_shards
from nemo_cosmos.errors import MissingFileError, SampleError, VideoError
from nemo_cosmos.evaluation.episode import Episode, EpisodeSource, FurtherView
from nemo_cosmos.evaluation.files.recorded import files_beside, read_recorded
from nemo_cosmos.evaluation.files.views import without_views
from nemo_cosmos.evaluation.metric import Frames
from nemo_cosmos.provenance.belonging import is_same_rate
from nemo_cosmos.storage import stamp_of
from nemo_cosmos.storage.paths import mp4_files
from nemo_cosmos.video import center_crop, decode, index_frames
from nemo_cosmos.video.resize import covering_size


@dataclass(frozen=True)
class Shape:
    """The videos that a model makes.

    Attributes:
        num_frames: frames.
        height: height in pixels.
        width: width in pixels.
        fps: frame rate in Hz.
    """

    num_frames: int
    height: int
    width: int
    fps: float


def shape_of(trained: Mapping[str, Any], options: Mapping[str, Any]) -> Shape:
    """The videos that a model makes.

    Args:
        trained: those that it was trained on, as its configuration says.
        options: options of the generation, which may say otherwise.
    """
    wanted = dict(trained) | {
        name: options[name]
        for name in ("num_frames", "height", "width", "fps")
        if options.get(name) is not None
    }
    return Shape(
        int(wanted["num_frames"]), int(wanted["height"]), int(wanted["width"]), float(wanted["fps"])
    )


def find_episodes(
    place: str | PathLike[str],
    signals: Sequence[Signal],
    shape: Shape,
    limit: int | None = None,
    recorded: Sequence[str] = (),
    several: bool = False,
) -> list[EpisodeSource]:
    """List the recordings of a folder, in order of name; none is decoded.

    Args:
        place: a folder of recordings, or shards.
        signals: the signals that the model's controls read.
        shape: what the model makes.
        limit: how many at most.
        recorded: names of further signals, which metrics need.
        several: whether to read all cameras of a recording, and their rig, instead of the first.

    Raises:
        MissingFileError: there is no recording.
        SampleError: a shard is damaged.
    """
    folder = Path(place)
    videos = without_views(mp4_files(folder))
    if several and RIG.name not in (*recorded, *(signal.name for signal in signals)):
        recorded = [*recorded, RIG.name]
    if videos:
        found = [
            _of_files(video.with_suffix(""), signals, shape, recorded, several)
            for video in videos[:limit]
        ]
    else:
        found = _of_shards(place, signals, shape, recorded, several)[:limit]
    return found


def _of_files(
    stem: Path, signals: Sequence[Signal], shape: Shape, recorded: Sequence[str], several: bool
) -> EpisodeSource:
    """A recording in files that share a stem."""
    video = Path(f"{stem}.mp4")
    views = views_of(_record(stem)) if several else DEFAULT_VIEWS
    others = {view: Path(f"{stem}.{view_suffix(views, view)}") for view in views[1:]}
    for view, file in others.items():
        if not file.exists():
            raise MissingFileError(
                f"'{video}' has the views {', '.join(views)} by its JSON, but there is no "
                f"'{file.name}' for '{view}'. Put it there, or correct the JSON."
            )

    def control() -> dict[str, Values]:
        arrays = {}
        read_by_file, layouts = _apart(signals, Path(f"{stem}.{LAYOUT.suffix}").exists())
        for signal in read_by_file:
            file = Path(f"{stem}.{signal.suffix}")
            if not file.exists():
                raise MissingFileError(
                    f"The model is steered by '{signal.name}', and '{video}' has no '{file.name}' "
                    "beside it. Write it, or evaluate on recordings that have it."
                )
            arrays[signal.name] = signal.completed(
                signal.values(read_signal(file)), _record(stem), f"'{file}'"
            )
        info = index_frames(video).info
        cut = _cut(arrays, read_by_file, shape, info.num_frames, str(video))
        fitted = _fitted(cut, info.height, info.width, shape)
        return fitted | {one.name: drawn() for one in layouts}

    def drawn() -> dict[str, Frames]:
        """The layout videos of the cameras."""
        files = {view: Path(f"{stem}.{view_suffix(views, view, LAYOUT_VIDEO)}") for view in views}
        for file in files.values():
            if not file.exists():
                raise MissingFileError(
                    f"The model is steered by layout videos, and '{video}' has no '{file.name}' "
                    "beside it. Draw one for each camera, or evaluate on recordings that have them."
                )
        return {view: _frames(file, str(file), shape) for view, file in files.items()}

    beside = [Path(f"{stem}.{signal.suffix}") for signal in signals]
    if LAYOUT in signals:
        beside += [Path(f"{stem}.{view_suffix(views, view, LAYOUT_VIDEO)}") for view in views]
    further = [file for one in (video, *others.values()) for file in files_beside(one, recorded)]

    def seen(file: Path) -> FurtherView:
        """A camera's frames, and what was recorded with it."""

        def content(suffix: str) -> bytes | None:
            signal = file.with_suffix(f".{suffix}")
            return signal.read_bytes() if signal in further else None

        frames_THWC = _frames(file, str(file), shape)
        if not further:
            return FurtherView(frames_THWC)
        info = index_frames(file).info
        extra = read_recorded(recorded, content, info.num_frames, 0, shape.num_frames, str(file))
        return FurtherView(frames_THWC, _fitted(extra, info.height, info.width, shape))

    def read() -> Episode:
        first = seen(video)
        seen_by = {view: seen(file) for view, file in others.items()}
        return Episode(
            first.truth_THWC, shape.fps, _caption(stem), control(), first.recorded, views, seen_by
        )

    beside += [*others.values(), *(file for file in further if file not in beside)]
    stamps = [list(stamp_of(file)) for file in (video, *beside) if file.exists()]
    return EpisodeSource(stem.name, stamps, read, control)


def _of_shards(
    place: str | PathLike[str],
    signals: Sequence[Signal],
    shape: Shape,
    recorded: Sequence[str],
    several: bool,
) -> list[EpisodeSource]:
    """The samples of shards."""
    found = []
    try:
        shards = list_shards(place)
    except MissingFileError as error:
        raise MissingFileError(
            f"'{place}' holds no recording. Name a folder with .mp4 files and their signals, as "
            "'nemo-cosmos simulate' writes it, or shards of 'nemo-cosmos curate'."
        ) from error
    for shard in shards:
        index = load_index(shard)
        found += [
            _of_sample(Sample(index, row), signals, shape, recorded, several)
            for row in range(len(index))
        ]
    return found


def _of_sample(
    sample: Sample, signals: Sequence[Signal], shape: Shape, recorded: Sequence[str], several: bool
) -> EpisodeSource:
    def control() -> dict[str, Values]:
        read_by_file, layouts = _apart(signals, LAYOUT.suffix in sample.members)
        arrays = {
            signal.name: signal.completed(
                signal.values(
                    decode_arrays(signal.suffix, sample.read(signal.suffix), sample.where)
                ),
                sample.record.extra,
                sample.where,
            )
            for signal in read_by_file
        }
        record = sample.record
        cut = _cut(arrays, read_by_file, shape, record.num_frames, sample.where)
        fitted = _fitted(cut, record.height, record.width, shape)
        views = record.views if several else DEFAULT_VIEWS
        drawn = {
            view: _frames(sample.read(view_suffix(views, view, LAYOUT_VIDEO)), sample.where, shape)
            for view in (views if layouts else ())
        }
        return fitted | {one.name: drawn for one in layouts}

    def seen(views: Views, view: str) -> FurtherView:
        """A camera's frames, and what was recorded with it."""
        record = sample.record

        def content(suffix: str) -> bytes | None:
            name = view_suffix(views, view, suffix)
            return sample.read(name) if name in sample.members else None

        frames_THWC = _frames(sample.read(view_suffix(views, view)), sample.where, shape)
        extra = read_recorded(
            recorded, content, record.num_frames, 0, shape.num_frames, sample.where
        )
        return FurtherView(frames_THWC, _fitted(extra, record.height, record.width, shape))

    def read() -> Episode:
        record = sample.record
        first = seen(record.views, record.views[0])
        views = record.views if several else DEFAULT_VIEWS
        return Episode(
            first.truth_THWC,
            shape.fps,
            record.caption,
            control(),
            first.recorded,
            views,
            {view: seen(views, view) for view in views[1:]},
        )

    return EpisodeSource(sample.key, [sample.shard, sample.key], read, control)


def _apart(signals: Sequence[Signal], has_latent: bool) -> tuple[list[Signal], list[Signal]]:
    """Signals that files hold, and layouts, which recordings have as videos beside their own.

    Args:
        signals: the signals of the model's controls.
        has_latent: whether the recording has the layout's latent instead.
    """
    drawn = [one for one in signals if one is LAYOUT and not has_latent]
    return [one for one in signals if one not in drawn], drawn


def _cut(
    arrays: Mapping[str, Values],
    signals: Sequence[Signal],
    shape: Shape,
    num_frames: int,
    where: str,
) -> dict[str, Values]:
    """The arrays of the first frames, checked."""
    if num_frames < shape.num_frames:
        raise _too_short(where, num_frames, shape)
    cut: dict[str, Values] = {}
    for signal in signals:
        signal.check_given(arrays[signal.name], num_frames, where)
        cut[signal.name] = signal.cut(arrays[signal.name], 0, shape.num_frames)
    return cut


def _fitted(
    signals: Mapping[str, Values], height: int, width: int, shape: Shape
) -> dict[str, Values]:
    """Signals of the whole picture as signals of the part that :func:`_frames` keeps."""
    size = (shape.height, shape.width)
    return fit_recorded(signals, covering_size(height, width, size), size)


def _frames(source: Path | bytes, where: str, shape: Shape) -> Frames:
    """The first frames, at the model's size.

    Raises:
        VideoError: there are fewer, or they are of another rate.
    """
    index = index_frames(source)
    info = index.info
    if not is_same_rate(info.fps, shape.fps) or info.variable_frame_rate:
        rate = "a variable frame rate" if info.variable_frame_rate else f"{info.fps:g} frames/s"
        raise VideoError(
            f"{where} has {rate}, but the model makes {shape.fps:g} frames a second: frames and "
            "control would count other steps. Resample the recording and its signals first."
        )
    if info.num_frames < shape.num_frames:
        raise _too_short(where, info.num_frames, shape)
    size = (shape.height, shape.width)
    decoded = decode(
        source,
        frame_indices=range(shape.num_frames),
        size=covering_size(info.height, info.width, size),
        index=index,
    )
    return center_crop(decoded.frames_THWC, size)


def _too_short(where: str, num_frames: int, shape: Shape) -> VideoError:
    return VideoError(
        f"{where} has {num_frames} frames, but the model makes {shape.num_frames}. Leave it out, "
        "or let the model make fewer (--option num_frames=N)."
    )


def _caption(stem: Path) -> str | None:
    """The words of a recording's JSON; None where there is none."""
    caption = _record(stem).get("caption")
    return str(caption) if caption else None


def _record(stem: Path) -> Mapping[str, Any]:
    """A recording's JSON; empty where there is none."""
    file = Path(f"{stem}.json")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SampleError(f"'{file}' is not valid JSON: {error}. Write it again.") from error
    return record if isinstance(record, dict) else {}
