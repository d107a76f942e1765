"""Read LeRobot data sets, versions 2.0, 2.1 and 3.0.

Version 2 keeps an episode in a file: ``data/chunk-000/episode_000000.parquet`` and a video for each
camera. Version 3 puts many episodes into a file: rows and seconds say where each one is. In both
``meta/info.json`` names the rate, the features and the files.

An action of LeRobot is a command at a frame, in whatever numbers the robot takes: joint angles, or
a motion of the gripper. No file says which it is; the caller must, with an embodiment.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.data.rlds import refuse_rlds
from nemo_cosmos.errors import InputError, MissingFileError, SampleError
from nemo_cosmos.platform.dependencies import require
from nemo_cosmos.provenance.belonging import is_same_rate
from nemo_cosmos.video import Video, decode, index_frames
from post_training.robotics.robot_sets import (
    check_sizes,
    decode_pictures,
    find_camera,
    named_views,
)

if TYPE_CHECKING:
    import pyarrow

VERSIONS = ("v2.0", "v2.1", "v3.0")
ACTION, STATE = "action", "observation.state"
PICTURES = "observation.images."
_V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True)
class LeRobotEpisode:
    """Where an episode is.

    Attributes:
        index: its number.
        length: number of frames.
        tasks: what the robot is told.
        files: what the templates of ``info.json`` take to name its table.
        videos: of each camera, what the templates take, and the second that the episode begins at.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    files: Mapping[str, int]
    videos: Mapping[str, tuple[Mapping[str, int], float]] = field(default_factory=dict)


class LeRobotData:
    """A data set on disk.

    Args:
        folder: the folder that holds ``meta``, ``data`` and ``videos``.

    Raises:
        MissingFileError: it holds no ``meta/info.json``.
        SampleError: that is damaged, or of a version that is not read.
        MissingDependencyError: pyarrow is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.info = _read_info(self.folder)
        require("pyarrow", "a LeRobot data set")
        self.fps = float(self.info["fps"])
        self._features: dict[str, JsonObject] = self.info["features"]
        self._is_v2 = self.info["codebase_version"] != "v3.0"
        # Episodes follow each other in a file, so that the newest table is the next one, too.
        self._table = functools.lru_cache(maxsize=1)(_read_table)
        self._index = functools.lru_cache(maxsize=1)(index_frames)

    @property
    def cameras(self) -> list[str]:
        """Names of the features that are pictures."""
        kinds = ("video", "image")
        return [name for name, item in self._features.items() if item.get("dtype") in kinds]

    def names_of(self, feature: str) -> list[str]:
        """What the numbers of a feature are called, where the data set says so."""
        names = self._features.get(feature, {}).get("names")
        if isinstance(names, dict):  # {"motors": ["shoulder", ...]}
            names = next(iter(names.values()), None)
        return [str(name) for name in names] if isinstance(names, list) else []

    def split_of(self, index: int) -> str:
        """The split of an episode: ``train`` unless ``info.json`` says otherwise."""
        for split, span in (self.info.get("splits") or {}).items():
            first, _, last = str(span).partition(":")
            if first.isdigit() and last.isdigit() and int(first) <= index < int(last):
                return str(split)
        return "train"

    def episodes(self) -> list[LeRobotEpisode]:
        """All episodes, in order.

        Raises:
            MissingFileError: the list of episodes does not exist.
            SampleError: it is damaged.
        """
        found = self._episodes_v2() if self._is_v2 else self._episodes_v3()
        try:
            return sorted(found, key=lambda episode: episode.index)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise SampleError(
                f"The list of episodes in '{self.folder / 'meta'}' is damaged ({error!r})."
            ) from error

    def camera(self, name: str | None) -> str:
        """The camera of that name, also by its last part; the first one by default.

        Raises:
            ConfigError: there is none.
        """
        return find_camera(self.folder, self.cameras, name)

    def views(self, names: Sequence[str] | None) -> dict[str, str]:
        """The cameras of those names, by what their views are called.

        A view is called what follows ``observation.images.``, or the last part of another name.

        Args:
            names: the cameras, also by their last parts; by default all but depth maps, in order.

        Raises:
            ConfigError: there is no such camera, or they are no views of one sample.
        """
        if names:
            chosen = [self.camera(name) for name in names]
        else:
            depths = [name for name in self.cameras if _is_depth_map(self._features[name])]
            chosen = [name for name in self.cameras if name not in depths]
            chosen = chosen or [self.camera(None)]
        return named_views(self.folder, chosen, _view_of)

    def check_alike(self, cameras: Sequence[str]) -> None:
        """Require that ``info.json`` gives several cameras one size.

        Raises:
            SampleError: they differ.
        """
        sizes = {name: _size_of(self._features[name]) for name in cameras}
        check_sizes(self.folder / "meta" / "info.json", sizes)

    def arrays(self, episode: LeRobotEpisode) -> dict[str, NDArray[np.float32]]:
        """Actions and states of an episode, a row for each frame.

        Raises:
            MissingFileError: its table does not exist.
            SampleError: it has no actions, or another number of rows.
        """
        table = self._rows(episode)
        found = {}
        for name in (ACTION, STATE):
            if name in table.column_names:
                found[name] = self._numbers_of(table.column(name).to_pylist(), name, episode)
        if ACTION not in found:
            raise SampleError(
                f"Episode {episode.index} has no column '{ACTION}'. It has "
                f"{', '.join(table.column_names)}."
            )
        return found

    def _numbers_of(
        self, rows: list[Any], name: str, episode: LeRobotEpisode
    ) -> NDArray[np.float32]:
        """Rows of a feature as an array, all of the width that ``info.json`` says."""
        width = int(np.prod(self._features.get(name, {}).get("shape") or [0]))
        read = [np.ravel(np.array(row, dtype=object)) for row in rows]
        for number, row in enumerate(read):
            expected = width or len(read[0])
            if len(row) != expected or any(not isinstance(value, int | float) for value in row):
                shown = str(rows[number])[:60]
                raise SampleError(
                    f"'{name}' of episode {episode.index} in '{self._table_file(episode)}' has in "
                    f"row {number} {shown}; expected {expected} numbers. Repair the data set, or "
                    "leave the episode out."
                )
        return np.stack(read).astype(np.float32)

    def frames(self, episode: LeRobotEpisode, camera: str, size: tuple[int, int] | None) -> Video:
        """The frames of an episode, as many as it has rows.

        Raises:
            MissingFileError: its video does not exist.
            VideoError: it cannot be decoded.
            SampleError: it has too few frames.
        """
        if self._features[camera]["dtype"] == "image":
            return Video(self._pictures(episode, camera, size), self.fps)
        named, begin_s = episode.videos.get(camera, (episode.files, 0.0))
        template = self.info.get("video_path") or (_V2_VIDEO if self._is_v2 else _V3_VIDEO)
        path = self.folder / template.format(video_key=camera, **named)
        first = round(begin_s * self.fps)
        index = self._index(path)
        available = index.info.num_frames
        fits = available == episode.length if self._is_v2 else available >= first + episode.length
        if not fits:
            raise SampleError(
                f"Episode {episode.index} has {episode.length} rows, but '{path}' has {available} "
                f"frames, of which the episode's begin at {first}. Repair the data set."
            )
        if not is_same_rate(index.info.fps, self.fps):
            raise SampleError(
                f"'{path}' plays {index.info.fps:g} frames a second, but 'meta/info.json' says "
                f"{self.fps:g}; expected one rate for rows and all cameras. Resample the video, or "
                "correct the file."
            )
        numbers = np.arange(first, first + episode.length)
        video = decode(path, frame_indices=numbers, size=size, index=index)
        return Video(video.frames_THWC, self.fps)

    def _pictures(
        self, episode: LeRobotEpisode, camera: str, size: tuple[int, int] | None
    ) -> NDArray[np.uint8]:
        table = self._rows(episode)
        if camera not in table.column_names:
            raise SampleError(
                f"'{self._table_file(episode)}' has no column '{camera}', which 'meta/info.json' "
                "says holds pictures. Repair the data set, or choose other cameras (--camera)."
            )
        where = f"'{camera}' of episode {episode.index} in '{self._table_file(episode)}'"

        def held() -> Iterator[bytes]:
            for number, picture in enumerate(table.column(camera).to_pylist()):
                content = picture.get("bytes") if isinstance(picture, dict) else None
                if not content:
                    raise SampleError(
                        f"{where} names a picture in row {number} without holding it; expected the "
                        "bytes of a PNG or JPEG. Write the data set with its pictures."
                    )
                yield content

        return decode_pictures(held(), size, where, "in row")

    def _rows(self, episode: LeRobotEpisode) -> pyarrow.Table:
        import pyarrow.compute as pc

        table = self._table(self._table_file(episode))
        if "episode_index" in table.column_names:
            table = table.filter(pc.equal(table.column("episode_index"), episode.index))
        if len(table) != episode.length or not episode.length:
            raise SampleError(
                f"Episode {episode.index} has {len(table)} rows in "
                f"'{self._table_file(episode)}'; its description says {episode.length}. Repair "
                "the data set."
            )
        return table

    def _table_file(self, episode: LeRobotEpisode) -> Path:
        template = self.info.get("data_path") or (_V2_DATA if self._is_v2 else _V3_DATA)
        return self.folder / template.format(**episode.files)

    def _episodes_v2(self) -> Iterator[LeRobotEpisode]:
        chunk = int(self.info.get("chunks_size") or 1000)
        for item in _read_lines(self.folder / "meta" / "episodes.jsonl"):
            index = int(item["episode_index"])
            files = {"episode_chunk": index // chunk, "episode_index": index}
            yield LeRobotEpisode(index, int(item["length"]), _words(item.get("tasks")), files)

    def _episodes_v3(self) -> Iterator[LeRobotEpisode]:
        files = sorted((self.folder / "meta" / "episodes").glob("*/*.parquet"))
        if not files:
            raise MissingFileError(
                f"'{self.folder}' lacks 'meta/episodes/*/*.parquet', which lists its episodes."
            )
        for item in (row for file in files for row in _read_table(file, "stats/").to_pylist()):
            videos = {
                camera: (
                    _numbers(item, f"videos/{camera}"),
                    item[f"videos/{camera}/from_timestamp"],
                )
                for camera in self.cameras
                if f"videos/{camera}/from_timestamp" in item
            }
            yield LeRobotEpisode(
                int(item["episode_index"]),
                int(item["length"]),
                _words(item.get("tasks")),
                _numbers(item, "data"),
                videos,
            )


def _read_info(folder: Path) -> JsonObject:
    file = folder / "meta" / "info.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        refuse_rlds(folder)
        raise MissingFileError(
            f"'{folder}' holds no 'meta/info.json'. Name the folder of a LeRobot data set, above "
            "'meta', 'data' and 'videos'."
        ) from error
    except ValueError as error:
        raise SampleError(f"'{file}' is not valid JSON: {error}.") from error
    version = info.get("codebase_version") if isinstance(info, dict) else None
    if version not in VERSIONS:
        raise SampleError(
            f"'{file}' is of the version '{version}'; {', '.join(VERSIONS)} can be read. Convert "
            "the data set with LeRobot's own scripts first."
        )
    if not isinstance(info.get("features"), dict) or not float(info.get("fps") or 0) > 0:
        raise SampleError(f"'{file}' lacks 'features' or a rate 'fps' above 0.")
    return info


def _read_table(file: Path, without: str = "") -> pyarrow.Table:
    """Read a table, without the columns whose names begin so."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A single file: what its folders are called must not become a column.
        opened = pq.ParquetFile(file)
        names = [n for n in opened.schema_arrow.names if not (without and n.startswith(without))]
        return opened.read(columns=names)
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no table '{file}'.") from error
    except (OSError, pa.ArrowException) as error:
        raise SampleError(f"The table '{file}' is damaged: {error}.") from error


def _read_lines(file: Path) -> Iterator[JsonObject]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no list of episodes '{file}'.") from error
    yield from (json.loads(line) for line in lines if line.strip())


def _is_depth_map(feature: JsonObject) -> bool:
    about = {**(feature.get("info") or {}), **(feature.get("video_info") or {})}
    return bool(about.get("video.is_depth_map") or about.get("is_depth_map"))


def _view_of(camera: str) -> str:
    """What a camera is called in file names."""
    if camera.startswith(PICTURES):
        return camera.removeprefix(PICTURES).replace(".", "_")
    return camera.rpartition(".")[2]


def _size_of(feature: JsonObject) -> tuple[int, int] | None:
    """Height and width of a camera; None where nothing says them."""
    shape, names = feature.get("shape"), feature.get("names")
    if not isinstance(shape, list) or len(shape) != 3:
        return None
    channels_first = isinstance(names, list) and str(names[0]).startswith("channel")
    return (shape[1], shape[2]) if channels_first else (shape[0], shape[1])


def _numbers(item: Mapping[str, Any], place: str) -> dict[str, int]:
    return {name: int(item[f"{place}/{name}"]) for name in ("chunk_index", "file_index")}


def _words(tasks: object) -> tuple[str, ...]:
    given = [tasks] if isinstance(tasks, str) else tasks if isinstance(tasks, list) else []
    return tuple(str(task).strip() for task in given if str(task).strip())
