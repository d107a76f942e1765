"""Read RLDS data sets: TensorFlow Datasets' TFRecord files of whole robot episodes.

``features.json`` beside the files says what each step holds. A record is an episode: of each
feature the values of all T steps, one after another, under names such as
``steps/observation/image_0``. No file says the rate, nor what the numbers of an action mean.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.data.rlds import list_rlds
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from post_training.robotics.rlds.records import Numbers, Record, list_records
from post_training.robotics.robot_sets import (
    Size,
    check_sizes,
    decode_pictures,
    find_camera,
    named_views,
)

ACTION, STATE = "action", "observation/state"
_STEPS = "steps"
_WORDS = ("language_instruction", "natural_language_instruction")
_TEXT_TYPES = ("string", "object", "bytes")


@dataclass(frozen=True)
class Feature:
    """What a feature of a step is.

    Attributes:
        kind: ``image``, ``text`` or ``tensor``.
        shape: its sizes; of an image -1 for one that differs.
        dtype: type of its numbers.
        encoding: how a tensor is written; ``none`` for plain numbers.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    encoding: str = "none"

    @property
    def is_picture(self) -> bool:
        """Whether it is a colour picture, and no depth map or mask."""
        return self.kind == "image" and self.dtype == "uint8" and self.shape[-1:] == (3,)

    @property
    def is_numeric(self) -> bool:
        """Whether it is numbers."""
        return self.kind == "tensor" and self.dtype not in _TEXT_TYPES

    @property
    def is_text(self) -> bool:
        """Whether it is words."""
        return self.kind == "text" or (self.kind == "tensor" and self.dtype in _TEXT_TYPES)

    @property
    def width(self) -> int:
        """How many numbers a step has of it."""
        return int(np.prod(self.shape, dtype=int))


@dataclass(frozen=True)
class RldsEpisode:
    """Where an episode is.

    Attributes:
        split: its split.
        index: its number within the split.
        record: its record; None where the file is damaged from there on.
        fault: why there is none.
    """

    split: str
    index: int
    record: Record | None
    fault: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"episode {self.index} of '{self.split}'"


class RldsData:
    """A data set on disk.

    Args:
        place: the folder of ``features.json`` and the TFRecord files, or one above it.

    Raises:
        MissingFileError: there is none.
        SampleError: it is damaged, or of a form that is not read.
        ConfigError: there are several.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.folder = _find_folder(Path(place))
        self.steps = _read_features(self.folder / "features.json")
        self.cameras = [name for name, feature in self.steps.items() if feature.is_picture]
        self._parts = {name: self._numeric_parts(name) for name in (ACTION, STATE)}
        if not self._parts[ACTION]:
            raise SampleError(
                f"'{self.folder / 'features.json'}' says that a step has no '{ACTION}' of numbers. "
                f"It has {', '.join(self.steps)}."
            )

    @property
    def action_width(self) -> int:
        """How many numbers an action is."""
        return sum(self.steps[part].width for part in self._parts[ACTION])

    def names_of(self, feature: str) -> list[str]:
        """What the numbers of a feature of several parts are called; none of a single one."""
        parts = self._parts[feature]
        if parts == [feature]:
            return []
        return [
            f"{part.rpartition('/')[2]}_{number}"
            for part in parts
            for number in range(self.steps[part].width)
        ]

    def views(self, names: Sequence[str] | None) -> dict[str, str]:
        """The cameras of those names by what their views are called; by default all.

        Raises:
            ConfigError: there is no such camera, or they are no views of one sample.
        """
        chosen = [find_camera(self.folder, self.cameras, name) for name in names or self.cameras]
        chosen = chosen or [find_camera(self.folder, self.cameras, None)]
        return named_views(self.folder, chosen, lambda camera: camera.rpartition("/")[2])

    def check_alike(self, cameras: Sequence[str]) -> None:
        """Require that ``features.json`` gives several cameras one size.

        Raises:
            SampleError: they differ.
        """
        sizes: dict[str, Size | None] = {}
        for name in cameras:
            height, width = self.steps[name].shape[:2]
            sizes[name] = (height, width) if min(height, width) > 0 else None
        check_sizes(self.folder / "features.json", sizes)

    def episodes(self) -> Iterator[RldsEpisode]:
        """All episodes, split by split, in the files' order."""
        counts: dict[str, int] = {}
        for file in sorted(self.folder.glob("*.tfrecord*")):
            split = _split_of(file)
            try:
                for record in list_records(file):
                    yield RldsEpisode(split, counts.get(split, 0), record)
                    counts[split] = counts.get(split, 0) + 1
            except SampleError as error:
                yield RldsEpisode(split, counts.get(split, 0), None, str(error))
                counts[split] = counts.get(split, 0) + 1

    def read(
        self, episode: RldsEpisode, cameras: Sequence[str], size: Size | None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.uint8]], tuple[str, ...]]:
        """Return an episode's numbers, the frames of its cameras, and its instructions.

        Args:
            episode: the episode.
            cameras: the cameras to take.
            size: height and width to resize the frames to; None for unchanged.

        Raises:
            SampleError: it is damaged, or of another form than ``features.json`` says.
        """
        if episode.record is None:
            raise SampleError(episode.fault)
        values = episode.record.read()
        where = f"{episode.name} (record {episode.record.number} of '{episode.record.file}')"
        arrays = {
            name: self._array(values, name, where) for name in self._parts if self._parts[name]
        }
        num_steps = len(arrays[ACTION])
        frames = {
            camera: _pictures(_bytes_of(values, camera, where), camera, num_steps, size, where)
            for camera in cameras
        }
        return arrays, frames, self._tasks(values, where)

    def _numeric_parts(self, name: str) -> list[str]:
        """The features that make up one: itself, or all below it in the order of their names."""
        found = [
            part
            for part, feature in sorted(self.steps.items())
            if (part == name or part.startswith(f"{name}/")) and feature.is_numeric
        ]
        for part in found:
            feature = self.steps[part]
            if feature.encoding != "none" or any(side < 0 for side in feature.shape):
                raise SampleError(
                    f"'{self.folder / 'features.json'}' says that '{part}' has the shape "
                    f"{feature.shape} and the encoding '{feature.encoding}'; expected plain "
                    "numbers of a fixed width. Write the data set again so."
                )
        return found

    def _array(
        self, values: Mapping[str, Sequence[bytes] | Numbers], name: str, where: str
    ) -> NDArray[np.float32]:
        columns = []
        for part in self._parts[name]:
            width = self.steps[part].width
            given = values.get(f"{_STEPS}/{part}", ())
            numbers = np.array(given, dtype=object).ravel()
            if not len(numbers) or len(numbers) % width or isinstance(numbers[0], bytes):
                raise SampleError(
                    f"'{part}' of {where} holds {len(numbers)} values; expected {width} numbers "
                    "for each step. Repair the data set, or leave the episode out."
                )
            columns.append(numbers.astype(np.float32).reshape(-1, width))
        lengths = {part: len(rows) for part, rows in zip(self._parts[name], columns, strict=True)}
        if len(set(lengths.values())) > 1:
            raise SampleError(f"The parts of '{name}' of {where} differ in length: {lengths}.")
        return np.concatenate(columns, axis=1)

    def _tasks(
        self, values: Mapping[str, Sequence[bytes] | Numbers], where: str
    ) -> tuple[str, ...]:
        """The instructions, which many data sets repeat at every step."""
        for part, feature in self.steps.items():
            if feature.is_text and part.rpartition("/")[2] in _WORDS:
                texts = _bytes_of(values, part, where)
                words = (text.decode("utf-8", "replace").strip() for text in texts)
                return tuple(dict.fromkeys(one for one in words if one))
        return ()


def _bytes_of(
    values: Mapping[str, Sequence[bytes] | Numbers], part: str, where: str
) -> list[bytes]:
    given = values.get(f"{_STEPS}/{part}", ())
    found = [one for one in given if isinstance(one, bytes)]
    if len(found) != len(given) or not found:
        raise SampleError(
            f"{where.capitalize()} lacks '{part}', which 'features.json' names. Repair the data "
            "set, or choose other cameras (--camera)."
        )
    return found


def _pictures(
    content: Sequence[bytes], camera: str, num_steps: int, size: Size | None, where: str
) -> NDArray[np.uint8]:
    if len(content) != num_steps:
        raise SampleError(
            f"{where.capitalize()} has {num_steps} actions, but {len(content)} pictures of "
            f"'{camera}'; expected one for each step. Repair the data set."
        )
    return decode_pictures(content, size, f"'{camera}' of {where}", "at step")


def _find_folder(place: Path) -> Path:
    found = list_rlds(place)
    if not found:
        raise MissingFileError(
            f"'{place}' holds no RLDS data set. Name the folder of its version, such as "
            "'bridge_dataset/1.0.0', which holds 'features.json' and '*.tfrecord*' files."
        )
    if len(found) > 1:
        raise ConfigError(
            f"'{place}' holds several data sets: {', '.join(map(str, found))}. Name one of them."
        )
    return found[0]


def _split_of(file: Path) -> str:
    """``train`` of ``bridge_dataset-train.tfrecord-00000-of-01024``."""
    named = re.search(r"-([^-]+)\.tfrecord", file.name)
    return named.group(1) if named else "train"


def _read_features(file: Path) -> dict[str, Feature]:
    """The features of a step, by their paths, in the file's order."""
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        of_episode = described["featuresDict"]["features"]
        steps = of_episode[_STEPS]["sequence"]["feature"]
        return dict(_features_below(steps, ""))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"There is no '{file}', which says what the records hold. TensorFlow Datasets writes "
            "it beside them; fetch it, too."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SampleError(
            f"'{file}' does not describe episodes of RLDS, which have '{_STEPS}' ({error!r}). "
            "Expected what TensorFlow Datasets 4 writes."
        ) from error


def _features_below(described: JsonObject, path: str) -> Iterator[tuple[str, Feature]]:
    if "featuresDict" in described:
        for name, below in described["featuresDict"]["features"].items():
            yield from _features_below(below, f"{path}/{name}" if path else name)
    elif "text" in described:
        yield path, Feature("text")
    elif "image" in described:
        about = described["image"]
        yield path, Feature("image", _shape_of(about), str(about.get("dtype", "uint8")))
    elif "tensor" in described:
        about = described["tensor"]
        encoding = str(about.get("encoding") or "none")
        yield path, Feature("tensor", _shape_of(about), str(about["dtype"]), encoding)


def _shape_of(about: JsonObject) -> tuple[int, ...]:
    return tuple(int(side) for side in (about.get("shape") or {}).get("dimensions", ()))
