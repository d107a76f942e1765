"""Robot episodes on disk: one layout for simulated and real ones.

An episode is four files in one folder::

    {key}.mp4         the video, T frames
    {key}.action.npy  (T-1, 7) float32, row t moves frame t to frame t+1
    {key}.state.npy   (T, 7) float32
    {key}.json        words, source, split, rate, camera, and the meaning of the actions

The JSON is written last, so an episode with a JSON is complete. ``manifest.json`` beside them lists
all. States and actions follow Bridge (Walke et al., 2023; the 7-D actions that Cosmos' action-
conditioned models take): ``x y z roll pitch yaw opening``, and their change seen from the gripper.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.controls import encode_arrays, read_signal
from nemo_cosmos.controls.signal import name_of
from nemo_cosmos.errors import MissingFileError, NumericsError, SampleError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import Video, decode, encode_video
from post_training.robotics.signal import ACTION, STATE

ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
STATE_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
MANIFEST = "manifest.json"
MANIFEST_FORMAT = "nemo_cosmos.robot_episodes"

_CRF = 12  # visually lossless: the videos are training data


@dataclass(frozen=True)
class Episode:
    """One robot episode.

    Attributes:
        key: the episode's name, unique within the folder.
        video: T frames.
        actions: ``(T-1, 7)`` float32, scaled to about [-1, 1].
        states: ``(T, 7)`` float32, metres, radians and opening (1 open, 0 closed).
        action_scale: ``(7,)`` factors from metres, radians and opening per frame to ``actions``.
        caption: description of the video, as a person would give it.
        split: ``train`` or ``val``.
        record: all other entries of the JSON.
    """

    key: str
    video: Video
    actions: np.ndarray
    states: np.ndarray
    action_scale: np.ndarray
    caption: str
    split: str
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for signal, array in ((ACTION, self.actions), (STATE, self.states)):
            where = f"episode '{self.key}'"
            signal.check(signal.values(array), self.video.num_frames, where)

    def describe(self) -> JsonObject:
        """Return the content of the episode's JSON."""
        return {
            "key": self.key,
            "split": self.split,
            "caption": self.caption,
            "fps": self.video.fps,
            "num_frames": self.video.num_frames,
            "width": self.video.width,
            "height": self.video.height,
            **self.record,
            "action": {
                "names": ACTION_NAMES,
                "scale": [float(factor) for factor in self.action_scale],
                "meaning": "change of the gripper's pose within a frame, in metres and radians "
                "seen from the gripper before it, and the opening after it (1 open, 0 closed); "
                "each times its scale",
            },
            "state": {"names": STATE_NAMES},
        }


def write_episode(folder: str | os.PathLike[str], episode: Episode) -> None:
    """Write the four files of an episode, the JSON last.

    Raises:
        StorageFullError: no space left; without its JSON the episode counts as not written.
    """
    arrays = {ACTION.suffix: episode.actions, STATE.suffix: episode.states}
    write_files(folder, episode.key, episode.video, arrays, episode.describe())


def write_files(
    folder: str | os.PathLike[str],
    key: str,
    video: Video,
    arrays: Mapping[str, np.ndarray],
    record: Mapping[str, Any],
) -> None:
    """Write the files of a recording in any robot's numbers, the JSON last.

    Args:
        folder: the folder.
        key: the recording's name.
        video: its frames.
        arrays: its arrays by the suffix of their ``.npy`` file.
        record: content of the JSON.

    Raises:
        NumericsError: an array holds NaN or infinity.
        StorageFullError: no space left; without its JSON the episode counts as not written.
    """
    stem = Path(folder) / key
    for suffix, array in arrays.items():
        if not np.isfinite(array).all():
            raise NumericsError(f"'{suffix}' of '{key}' holds NaN or infinity. Repair it.")
    _json(stem).unlink(missing_ok=True)
    encode_video(f"{stem}.mp4", video, crf=_CRF)
    for suffix, array in arrays.items():
        values = {name_of(suffix): array.astype(np.float32)}
        with atomic_path(f"{stem}.{suffix}") as temporary:
            temporary.write_bytes(encode_arrays(suffix, values))
    _write_json(_json(stem), record)


def read_episode(folder: str | os.PathLike[str], key: str) -> Episode:
    """Read an episode back.

    Raises:
        MissingFileError: one of its files does not exist.
        SampleError: its parts do not fit together.
        NumericsError: a recording holds NaN, infinity or implausible values.
        VideoError: the video cannot be decoded.
    """
    record = read_record(folder, key)
    stem = Path(folder) / key
    arrays = []
    for signal in (ACTION, STATE):
        file = Path(f"{stem}.{signal.suffix}")
        if not file.exists():
            raise MissingFileError(f"Episode '{key}' lacks '{file}'. Simulate or prepare it again.")
        arrays.append(signal.values(read_signal(file))[signal.name])
    own = ("key", "split", "caption", "fps", "num_frames", "width", "height", "action", "state")
    return Episode(
        key,
        decode(f"{stem}.mp4"),
        arrays[0],
        arrays[1],
        np.array(record["action"]["scale"]),
        record.get("caption", ""),
        record["split"],
        {name: value for name, value in record.items() if name not in own},
    )


def read_record(folder: str | os.PathLike[str], key: str) -> JsonObject:
    """Read an episode's JSON.

    Raises:
        MissingFileError: it does not exist.
        SampleError: it is not the JSON of an episode.
    """
    file = _json(Path(folder) / key)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"There is no episode '{key}' in '{folder}'. 'manifest.json' lists those that are."
        ) from error
    except json.JSONDecodeError as error:
        raise SampleError(
            f"'{file}' is not valid JSON ({error}). Delete it and run again."
        ) from error
    if not isinstance(record, dict) or not {"split", "action"} <= set(record):
        raise SampleError(
            f"'{file}' is not the description of a robot episode: expected the keys 'split' "
            "and 'action'."
        )
    return record


def is_complete(folder: str | os.PathLike[str], key: str) -> bool:
    """Whether all files of an episode exist."""
    stem = Path(folder) / key
    names = (f"{stem}.mp4", f"{stem}.action.npy", f"{stem}.state.npy", f"{stem}.json")
    return all(Path(name).exists() for name in names)


def write_manifest(
    folder: str | os.PathLike[str], settings: Mapping[str, Any], keys: Iterable[str]
) -> Path:
    """List episodes with their split and words, so that readers need not open each of them.

    Returns:
        The file ``folder/manifest.json``.
    """
    episodes = []
    for key in keys:
        record = read_record(folder, key)
        episodes.append(
            {name: record.get(name) for name in ("key", "split", "task", "caption", "num_frames")}
        )
    manifest = {"format": MANIFEST_FORMAT, "version": 1, "settings": settings, "episodes": episodes}
    target = Path(folder) / MANIFEST
    _write_json(target, manifest)
    return target


def read_manifest(folder: str | os.PathLike[str]) -> JsonObject | None:
    """Return the manifest of a folder; None if there is none.

    Raises:
        SampleError: it is of another format.
    """
    file = Path(folder) / MANIFEST
    if not file.exists():
        return None
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("format") != MANIFEST_FORMAT:
        raise SampleError(
            f"'{file}' is not a list of robot episodes (format '{MANIFEST_FORMAT}'). Choose "
            "another folder."
        )
    return manifest


def _json(stem: Path) -> Path:
    return Path(f"{stem}.json")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
