"""Read actions and states of a data set in any layout that we know; videos only when asked for.

Nothing is refused for what its numbers mean: finding that out is the inspection's work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.controls import CAMERA, Values, decode_arrays, read_signal
from nemo_cosmos.controls.number_group import capital
from nemo_cosmos.data.rlds import refuse_rlds
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.index import load_index
from nemo_cosmos.data.shards.writer import list_shards
from nemo_cosmos.errors import MissingFileError, NumericsError, SampleError
from nemo_cosmos.video import Video, decode
from post_training.robotics.bridge import BRIDGE_ACTION_SCALE, BRIDGE_FPS, find_recordings
from post_training.robotics.lerobot.reading import ACTION as LEROBOT_ACTION
from post_training.robotics.lerobot.reading import STATE as LEROBOT_STATE
from post_training.robotics.lerobot.reading import LeRobotData, LeRobotEpisode

Rows = NDArray[np.float64]

_ACTIONS = ("action.npy", "robot_action.npy")
_STATES = ("state.npy", "robot_state.npy")


@dataclass(frozen=True)
class Recorded:
    """One recording.

    Attributes:
        place: where its actions are, for messages.
        actions_NA: its actions, as files hold them.
        states_TA: its states, one more than actions; None where it has none.
        fps: its rate in Hz; None where nothing says it.
        scale: factors of the actions that its JSON states; None where it states none.
        camera: its camera, where one is recorded.
        video: decodes its frames; None where it has none.
    """

    place: str
    actions_NA: Rows
    states_TA: Rows | None = None
    fps: float | None = None
    scale: tuple[float, ...] | None = None
    camera: Values | None = None
    video: Callable[[], Video] | None = None


def read_recordings(place: str | PathLike[str]) -> Iterator[Recorded]:
    """Yield the recordings of a data set in the order of their names.

    Args:
        place: a folder of recordings, Bridge or LeRobot data as they are shipped, or shards.

    Raises:
        MissingFileError: it holds none with actions.
        SampleError: a file is damaged, or its rows do not fit together; names it.
        NumericsError: an array holds NaN or infinity; names file and row.
    """
    folder = Path(place)
    if (folder / "annotation").is_dir():
        yield from _bridge(folder)
    elif (folder / "meta" / "info.json").is_file():
        yield from _lerobot(folder)
    elif files := sorted(file for end in _ACTIONS for file in folder.glob(f"*.{end}")):
        yield from (_of_files(file) for file in files)
    else:
        yield from _shards(place)


def _bridge(folder: Path) -> Iterator[Recorded]:
    """Annotations as they are; actions in the scale in which they are converted."""
    for split, number in find_recordings(folder):
        file = folder / "annotation" / split / f"{number}.json"
        annotation = _json(file)
        arrays = {}
        for name in ("action", "state"):
            try:
                arrays[name] = np.array(annotation[name], np.float64)
            except (KeyError, ValueError, TypeError) as error:
                raise SampleError(
                    f"'{file}' has no rows of numbers of one length under '{name}' ({error})."
                ) from error
        video = folder / "videos" / split / number / "rgb.mp4"
        actions = arrays["action"]
        if actions.ndim == 2 and actions.shape[1] == len(BRIDGE_ACTION_SCALE):
            actions = actions * BRIDGE_ACTION_SCALE
        yield _recorded(
            f"'{file}'", actions, arrays["state"], fps=BRIDGE_FPS, video=_decoder(video)
        )


def _lerobot(folder: Path) -> Iterator[Recorded]:
    data = LeRobotData(folder)
    for episode in data.episodes():
        arrays = data.arrays(episode)

        def video(episode: LeRobotEpisode = episode) -> Video:
            return data.frames(episode, data.camera(None), None)

        yield _recorded(
            f"episode {episode.index} of '{folder}'",
            arrays[LEROBOT_ACTION],
            arrays.get(LEROBOT_STATE),
            fps=data.fps,
            video=video if data.cameras else None,
        )


def _of_files(file: Path) -> Recorded:
    stem = str(file)[: -len(next(end for end in _ACTIONS if file.name.endswith("." + end))) - 1]
    described = Path(f"{stem}.json")
    record = _json(described) if described.is_file() else {}
    states = next((Path(f"{stem}.{s}") for s in _STATES if Path(f"{stem}.{s}").is_file()), None)
    camera = Path(f"{stem}.{CAMERA.suffix}")
    return _recorded(
        f"'{file}'",
        np.asarray(read_signal(file)),
        None if states is None else np.asarray(read_signal(states)),
        record=record,
        camera=CAMERA.values(camera) if camera.is_file() else None,
        video=_decoder(Path(f"{stem}.mp4")),
    )


def _shards(place: str | PathLike[str]) -> Iterator[Recorded]:
    try:
        shards = list_shards(place)
    except MissingFileError as error:
        refuse_rlds(place)
        raise _no_actions(place) from error
    found = False
    for shard in shards:
        index = load_index(shard)
        for sample in (Sample(index, row) for row in range(len(index))):
            if any(end in sample.members for end in _ACTIONS):
                found = True
                yield _of_sample(sample)
    if not found:
        raise _no_actions(place)


def _of_sample(sample: Sample) -> Recorded:
    def array(ends: tuple[str, ...]) -> Array | None:
        return next((sample.array(end) for end in ends if end in sample.members), None)

    actions = array(_ACTIONS)
    assert actions is not None
    camera = None
    if CAMERA.suffix in sample.members:
        camera = decode_arrays(CAMERA.suffix, sample.read(CAMERA.suffix), sample.where)
    record = sample.record
    return _recorded(
        f"'{_ACTIONS[0]}' of {sample.where}",
        actions,
        array(_STATES),
        record={"fps": record.fps, "action": record.extra.get("action")},
        camera=camera,
        video=(lambda: decode(sample.read("mp4"))) if "mp4" in sample.members else None,
    )


def _recorded(
    place: str,
    actions: Array,
    states: Array | None,
    *,
    fps: float | None = None,
    record: JsonObject | None = None,
    camera: Values | None = None,
    video: Callable[[], Video] | None = None,
) -> Recorded:
    """Check rows and values, and leave out the command at the last frame, which leads nowhere."""
    record = record or {}
    actions_NA = _rows(actions, place)
    states_TA = None if states is None else _rows(states, f"the states beside {place}")
    if states_TA is not None and len(actions_NA) == len(states_TA):
        actions_NA = actions_NA[:-1]
    if states_TA is not None and len(actions_NA) != len(states_TA) - 1:
        raise SampleError(
            f"{capital(place)} has {len(actions_NA)} actions for {len(states_TA)} states; expected "
            "as many, or one action less: row t moves frame t to frame t + 1. Align them, or leave "
            "the recording out."
        )
    action = record.get("action")
    scale = action.get("scale") if isinstance(action, dict) else None
    rate = record.get("fps", fps)
    return Recorded(
        place,
        actions_NA,
        states_TA,
        float(rate) if rate else None,
        tuple(map(float, scale)) if isinstance(scale, list | tuple) else None,
        camera,
        video,
    )


def _rows(array: Array, place: str) -> Rows:
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise SampleError(
            f"{capital(place)} holds an array of shape {array.shape} and type {array.dtype}; "
            "expected a row of numbers for each step. Write it again in that form."
        )
    bad = np.argwhere(~np.isfinite(array))
    if bad.size:
        raise NumericsError(
            f"{capital(place)} holds NaN or infinity in row {bad[0][0]}, number {bad[0][1]}. "
            "Repair the recording, or leave it out."
        )
    return array.astype(np.float64)


def _decoder(file: Path) -> Callable[[], Video] | None:
    return (lambda: decode(file)) if file.is_file() else None


def _json(file: Path) -> JsonObject:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SampleError(f"'{file}' is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise SampleError(f"'{file}' holds no object of names and values.")
    return content


def _no_actions(place: str | PathLike[str]) -> MissingFileError:
    return MissingFileError(
        f"'{place}' holds no recording with actions. Name a folder with {{key}}.action.npy (or "
        "robot_action.npy) beside {key}.mp4, as 'nemo-cosmos convert' and 'simulate' write it, a "
        "Bridge or LeRobot data set, or shards of them."
    )
