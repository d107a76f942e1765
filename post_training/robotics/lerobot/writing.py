"""Write episodes as a LeRobot data set of version 3.0.

Recorded episodes go back to where a robot's tools read them, and so do generated ones: rollouts of
a world model become training data of a policy. The videos are copied as they are, one file for each
episode and camera; the rows of all episodes share a table.

LeRobot has an action at each frame, also at the last one, where our files have none: it repeats the
one before, and leads nowhere.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.controls import read_signal
from nemo_cosmos.controls.embodiment import (
    EMBODIMENT,
    Embodiment,
    Given,
    find_embodiment,
    of_width,
    unknown_embodiment,
)
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError, VideoError, counted
from nemo_cosmos.evaluation.files.views import view_files, without_views
from nemo_cosmos.platform.dependencies import require
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.storage.outputs import check_apart, check_output_folder
from nemo_cosmos.storage.paths import mp4_files
from nemo_cosmos.video import decode, probe
from nemo_cosmos.video.index.probe import VideoInfo
from post_training.robotics.lerobot.statistics import aggregated, number_stats, pixel_stats

CODEBASE = "v3.0"
EPISODES_A_CHUNK = 1000
MAIN_CAMERA = "main"
NO_WORDS = "no instruction"
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_LOOKS = 8
"""Frames of each video that the statistics of its pixels are taken from."""
_OWN_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class LeRobotReport:
    """What :func:`write_lerobot` wrote.

    Attributes:
        folder: the data set.
        num_episodes: its episodes.
        num_frames: rows of its table.
        cameras: names of its cameras.
        embodiment: the name of what its actions are.
        num_tasks: different instructions.
    """

    folder: str
    num_episodes: int
    num_frames: int
    cameras: tuple[str, ...]
    embodiment: str
    num_tasks: int


@dataclass(frozen=True)
class _Rollout:
    """An episode to write, checked."""

    key: str
    task: str
    videos: Mapping[str, Path]
    info: VideoInfo
    columns: Mapping[str, Array]
    record: JsonObject = field(default_factory=dict)


def write_lerobot(
    episodes: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    signals: str | os.PathLike[str] | None = None,
    embodiment: Given | None = None,
    camera: str | None = None,
    robot: str | None = None,
    progress: Progress | None = None,
) -> LeRobotReport:
    """Write a folder of episodes as a LeRobot data set; nothing is written unless all of it fits.

    Args:
        episodes: a folder with ``{key}.mp4``, further cameras as ``{key}.{view}.mp4``,
            ``{key}.action.npy`` and, of recorded ones, ``{key}.state.npy`` and ``{key}.json``.
        out: the folder of the data set; it must not exist, or be empty.
        signals: a folder with the actions and words of the same keys, where ``episodes`` holds
            videos alone, as evaluations leave them. Longer actions are cut to the videos.
        embodiment: what the actions are; by default what their JSON says, else what their width
            suggests.
        camera: what the first camera is called; by default what its JSON says, else ``main``.
        robot: the robot's type in ``info.json``; by default what the JSON says.
        progress: called with the episodes written and the episodes in all.

    Raises:
        MissingFileError: there is no video, or one has no actions.
        SampleError, VideoError: an episode does not fit its video, or the others.
        ConfigError: the folder holds something, or the actions are of another embodiment.
        MissingDependencyError: pyarrow is not installed.
        StorageFullError: no space left; nothing has been written.
    """
    require("pyarrow", "a LeRobot data set")
    target = check_output_folder(out)
    check_apart(target, [episodes, *([] if signals is None else [signals])])
    if target.is_dir() and any(target.iterdir()):
        raise ConfigError(
            f"'{target}' is not empty. Name a new folder; a data set is written whole."
        )
    found = [
        _read(video, Path(signals or episodes), camera)
        for video in without_views(mp4_files(episodes))
    ]
    if not found:
        raise MissingFileError(f"'{episodes}' holds no .mp4 file, so there is no episode to write.")
    _check_alike(found)
    told = _told_in(found, embodiment)
    with atomic_path(target) as draft:
        writer = _Writer(draft, found, told, robot)
        for number in range(len(found)):
            writer.copy(number)
            if progress is not None:
                progress(number + 1, len(found))
        writer.finish()
    return LeRobotReport(
        str(target),
        len(found),
        sum(one.info.num_frames for one in found),
        tuple(found[0].videos),
        told.name,
        len(writer.tasks),
    )


def _read(video: Path, signals: Path, camera: str | None) -> _Rollout:
    """An episode's files, looked at."""
    info = probe(video)
    if info.variable_frame_rate:
        raise VideoError(
            f"'{video}' has a variable frame rate, and LeRobot counts frames at a constant one. "
            "Transcode it first."
        )
    stem = signals / video.stem
    file = Path(f"{stem}.action.npy")
    if not file.is_file():
        raise MissingFileError(
            f"'{video}' has no actions '{file}'. Write them, or name the folder that has them "
            "(--signals)."
        )
    columns = {"action": _rows(file, info.num_frames - 1)}
    state = Path(f"{stem}.state.npy")
    # Of a generated video nobody has measured the states: those beside the actions are another's.
    if state.is_file() and signals == video.parent:
        columns["observation.state"] = _rows(state, info.num_frames)
    record = {**_json(video.with_suffix(".json")), **_json(Path(f"{stem}.json"))}
    words = next((record[k] for k in ("instruction", "caption", "prompt") if record.get(k)), None)
    views = _cameras(video, tuple(map(str, record.get("views") or ())), camera)
    for view, path in views.items():
        other = probe(path)
        if other.num_frames != info.num_frames:
            raise VideoError(
                f"The view '{view}' of '{video}' has {counted(other.num_frames, 'frame')}, the "
                f"first one {info.num_frames}; expected as many. Cut them alike."
            )
    return _Rollout(video.stem, str(words or NO_WORDS), views, info, columns, record)


def _cameras(video: Path, names: Sequence[str], first: str | None) -> dict[str, Path]:
    """The files of an episode's cameras, in the order of its JSON."""
    further = view_files(video)
    # A generated video may show one of the recorded cameras alone.
    if further and (missing := [name for name in names[1:] if name not in further]):
        raise MissingFileError(
            f"'{video}' has the views {', '.join(names)} by its JSON, but there is no "
            f"'{video.stem}.{missing[0]}.mp4' beside it. Put it there, or correct the JSON."
        )
    ordered = {name: further[name] for name in names[1:] if name in further}
    return {first or next(iter(names), MAIN_CAMERA): video, **ordered, **further}


def _rows(file: Path, num_rows: int) -> Array:
    """Rows of an array, cut to those that the video has."""
    array = read_signal(file)
    rows = array if isinstance(array, np.ndarray) else next(iter(array.values()))
    if rows.ndim != 2 or len(rows) < num_rows:
        raise SampleError(
            f"'{file}' has the shape {tuple(rows.shape)}; the video takes {num_rows} rows of "
            "numbers. Write them again, or leave the episode out."
        )
    return np.asarray(rows[:num_rows], np.float32)


def _json(file: Path) -> JsonObject:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SampleError(f"'{file}' is not valid JSON: {error}. Write it again.") from error
    return content if isinstance(content, dict) else {}


def _check_alike(found: Sequence[_Rollout]) -> None:
    """Require one rate, one size, one width and the same cameras in all episodes."""
    first = found[0]

    def form(one: _Rollout) -> dict[str, object]:
        widths = {f"numbers of {name}": rows.shape[1] for name, rows in one.columns.items()}
        size = f"{one.info.height}x{one.info.width}"
        rate = round(one.info.fps, 3)
        cameras = ", ".join(one.videos)
        return {"frames a second": rate, "size": size, "cameras": cameras, **widths}

    for one in found[1:]:
        ours, theirs = form(first), form(one)
        for name in {**ours, **theirs}:
            if ours.get(name) != theirs.get(name):
                raise SampleError(
                    f"Episode '{one.key}' has {theirs.get(name, 'no')} as {name}, but "
                    f"'{first.key}' has {ours.get(name, 'no')}; a LeRobot data set has one. Write "
                    "them as two."
                )


def _told_in(found: Sequence[_Rollout], given: Given | None) -> Embodiment:
    """What the actions are: as asked for, as recorded, or as their width suggests."""
    width = found[0].columns["action"].shape[1]
    named = {str(one.record[EMBODIMENT]) for one in found if one.record.get(EMBODIMENT)}
    if given is None and len(named) > 1:
        raise ConfigError(
            f"The episodes are of {' and '.join(sorted(named))}; a LeRobot data set is of one "
            "robot. Write them as two."
        )
    if given is None and not named:
        fitting = of_width(width)
        return find_embodiment(fitting[0]) if len(fitting) == 1 else unknown_embodiment(width)
    told = find_embodiment(given if given is not None else next(iter(named)))
    if told.width != width:
        raise ConfigError(
            f"The actions have {width} numbers, but the embodiment '{told.name}' has "
            f"{told.width}: {', '.join(told.names)}. Name theirs (--embodiment)."
        )
    return told


class _Writer:
    """The files of a data set, one after the other."""

    def __init__(
        self, folder: Path, found: Sequence[_Rollout], told: Embodiment, robot: str | None
    ) -> None:
        self.folder, self.found, self.told = folder, found, told
        self.robot = robot or found[0].record.get("robot") or told.name
        self.tasks = list(dict.fromkeys(one.task for one in found))
        self.first = np.cumsum([0, *(one.info.num_frames for one in found)]).tolist()
        self.stats: list[dict[str, dict[str, Array]]] = []

    def copy(self, number: int) -> None:
        """Copy an episode's videos, and take its statistics."""
        one = self.found[number]
        for camera, file in one.videos.items():
            place = {"chunk_index": number // EPISODES_A_CHUNK, "file_index": number}
            place["file_index"] %= EPISODES_A_CHUNK
            target = self.folder / _VIDEO.format(video_key=_key(camera), **place)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        self.stats.append(self._stats(one, self._columns(number)))

    def finish(self) -> None:
        """Write tables and descriptions."""
        import pyarrow as pa

        columns = [self._columns(number) for number in range(len(self.found))]
        joined = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
        arrays = {name: _arrow(values) for name, values in joined.items()}
        self._table(_DATA.format(chunk_index=0, file_index=0), pa.table(arrays))
        episodes = [self._episode(number) for number in range(len(self.found))]
        self._table("meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(episodes))
        self._table("meta/tasks.parquet", _tasks_table(self.tasks))
        self._json("meta/info.json", self._info())
        self._json("meta/stats.json", aggregated(self.stats))
        self._json(
            "meta/nemo_cosmos.json",
            {EMBODIMENT: self.told.to_dict(), "episodes": [one.key for one in self.found]},
        )

    def _columns(self, number: int) -> dict[str, Array]:
        """The rows of an episode: its own, and where they are."""
        one = self.found[number]
        first = self.first[number]
        steps = np.arange(one.info.num_frames)
        actions_NA = one.columns["action"]
        own = {**one.columns, "action": np.concatenate([actions_NA, actions_NA[-1:]])}
        return own | {
            "timestamp": (steps / one.info.fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full_like(steps, number),
            "index": first + steps,
            "task_index": np.full_like(steps, self.tasks.index(one.task)),
        }

    def _episode(self, number: int) -> dict[str, Any]:
        one = self.found[number]
        first = self.first[number]
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [one.task],
            "length": one.info.num_frames,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": first,
            "dataset_to_index": first + one.info.num_frames,
        }
        for camera in one.videos:
            place = f"videos/{_key(camera)}"
            row[f"{place}/chunk_index"] = number // EPISODES_A_CHUNK
            row[f"{place}/file_index"] = number % EPISODES_A_CHUNK
            row[f"{place}/from_timestamp"] = 0.0
            row[f"{place}/to_timestamp"] = one.info.num_frames / one.info.fps
        for feature, values in self.stats[number].items():
            row |= {f"stats/{feature}/{name}": each.tolist() for name, each in values.items()}
        return row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}

    def _stats(self, one: _Rollout, columns: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
        found = {name: number_stats(rows) for name, rows in columns.items()}
        for camera, file in one.videos.items():
            last = one.info.num_frames - 1
            looks = np.unique(np.linspace(0, last, min(_LOOKS, last + 1)).astype(np.int64))
            found[_key(camera)] = pixel_stats(decode(file, frame_indices=looks).frames_THWC)
        return found

    def _info(self) -> JsonObject:
        first = self.found[0]
        fps = round(first.info.fps, 3)
        return {
            "codebase_version": CODEBASE,
            "robot_type": self.robot,
            "total_episodes": len(self.found),
            "total_frames": self.first[-1],
            "total_tasks": len(self.tasks),
            "chunks_size": EPISODES_A_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": int(fps) if fps == int(fps) else fps,
            "splits": {"train": f"0:{len(self.found)}"},
            "data_path": _DATA,
            "video_path": _VIDEO,
            "features": self._features(first),
        }

    def _features(self, first: _Rollout) -> JsonObject:
        names = {"action": list(self.told.names)}
        if self.told.state and "observation.state" in first.columns:
            names["observation.state"] = [n for group in self.told.state for n in group.names]
        features: JsonObject = {}
        for name, rows in first.columns.items():
            width = rows.shape[1]
            said = names.get(name, [])
            numbers = said if len(said) == width else [f"{name}_{n}" for n in range(width)]
            features[name] = {"dtype": "float32", "shape": [width], "names": numbers}
        for camera, file in first.videos.items():
            info = probe(file)
            features[_key(camera)] = {
                "dtype": "video",
                "shape": [info.height, info.width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": info.height,
                    "video.width": info.width,
                    "video.codec": info.codec,
                    "video.pix_fmt": info.pixel_format,
                    "video.is_depth_map": False,
                    "video.fps": round(info.fps, 3),
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
        kinds = dict.fromkeys(_OWN_COLUMNS, "int64") | {"timestamp": "float32"}
        own = {n: {"dtype": kind, "shape": [1], "names": None} for n, kind in kinds.items()}
        return features | own

    def _table(self, place: str, table: Any) -> None:
        import pyarrow.parquet as pq

        file = self.folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)

    def _json(self, place: str, content: JsonObject) -> None:
        file = self.folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")


def _key(camera: str) -> str:
    return f"observation.images.{camera}"


def _arrow(values: Array) -> Any:
    """A column: numbers, or rows of one width."""
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _tasks_table(tasks: Sequence[str]) -> Any:
    """The tasks as pandas writes a table whose index they are, which LeRobot reads with it."""
    import pyarrow as pa

    index = "__index_level_0__"
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: list(tasks)})
    kinds = (("task_index", "task_index", "int64", "int64"), (None, index, "unicode", "object"))
    described = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": column,
                "pandas_type": kind,
                "numpy_type": stored,
                "metadata": None,
            }
            for name, column, kind, stored in kinds
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(described)})
