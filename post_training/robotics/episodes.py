"""Robot episodes on disk: one layout for simulated and real ones.

An episode is four files in one folder::

    {key}.mp4         the video, T frames
    {key}.action.npy  (T-1, 7) float32, row t moves frame t to frame t+1
    {key}.state.npy   (T, 7) float32
    {key}.camera.npz  the camera, and {key}.things.npz what lies on the table, of simulated ones
    {key}.json        words, source, split, rate, camera, and the meaning of the actions

See :mod:`post_training.recordings` for what is complete, and for the list of all. States and
actions follow Bridge (Walke et al., 2023; the 7-D actions that Cosmos' action-conditioned models
take): ``x y z roll pitch yaw opening``, and their change seen from the gripper.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.controls import CAMERA, Values, read_signal
from nemo_cosmos.controls.embodiment import EMBODIMENT, Embodiment
from nemo_cosmos.controls.signal_files import name_of
from nemo_cosmos.controls.things import THINGS
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.video import Video, decode, encode_video
from post_training.recordings import CRF, Recordings, write_recording
from post_training.robotics.restating import restate_own
from post_training.robotics.signal import ACTION, DEFAULT_EMBODIMENT, STATE

ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
STATE_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")

EPISODES = Recordings(
    format="nemo_cosmos.robot_episodes",
    noun="robot episode",
    suffixes=(ACTION.suffix, STATE.suffix),
    required=frozenset({"split", "action"}),
    listed=("key", "split", "task", "caption", "num_frames"),
)
"""Robot episodes in a folder: whether one is complete, its record, and the list of all."""


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
        further: arrays of further signals by their file's suffix, for metrics: ``camera.npz``,
            ``things.npz``.
    """

    key: str
    video: Video
    actions: np.ndarray
    states: np.ndarray
    action_scale: np.ndarray
    caption: str
    split: str
    record: Mapping[str, Any] = field(default_factory=dict)
    further: Mapping[str, Values] = field(default_factory=dict)

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
            EMBODIMENT: DEFAULT_EMBODIMENT,
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


def write_episode(
    folder: str | os.PathLike[str], episode: Episode, told_in: Embodiment | None = None
) -> None:
    """Write the files of an episode, the JSON last.

    Args:
        folder: the folder.
        episode: the episode.
        told_in: the embodiment that its actions are written in, in place of Bridge's seven numbers.

    Raises:
        ConfigError: its actions cannot be written so.
        StorageFullError: no space left; without its JSON the episode counts as not written.
    """
    actions_NA, record = episode.actions, episode.describe()
    if told_in is not None and told_in.name != DEFAULT_EMBODIMENT:
        actions_NA = restate_own(actions_NA, episode.action_scale, told_in)
        record[EMBODIMENT] = told_in.name
        record["action"] = {"names": list(told_in.names), "meaning": told_in.title}
    files = {ACTION.suffix: {ACTION.name: actions_NA.astype(np.float32)}}
    files |= {STATE.suffix: {STATE.name: episode.states.astype(np.float32)}}
    further = {suffix: dict(values) for suffix, values in episode.further.items()}
    write_recording(folder, episode.key, episode.video, files | further, record)


def write_files(
    folder: str | os.PathLike[str],
    key: str,
    video: Video,
    arrays: Mapping[str, np.ndarray],
    record: Mapping[str, Any],
    further: Mapping[str, Video] | None = None,
) -> None:
    """Write the files of a recording in any robot's numbers, the JSON last.

    Args:
        folder: the folder.
        key: the recording's name.
        video: its frames.
        arrays: its arrays by the suffix of their ``.npy`` file.
        record: content of the JSON.
        further: the frames of further cameras by the names of their views.

    Raises:
        NumericsError: an array holds NaN or infinity.
        StorageFullError: no space left; without its JSON the episode counts as not written.
    """
    stem = Path(folder) / key
    Path(f"{stem}.json").unlink(missing_ok=True)
    for view, seen in (further or {}).items():
        encode_video(f"{stem}.{view}.mp4", seen, crf=CRF)
    files = {
        suffix: {name_of(suffix): array.astype(np.float32)} for suffix, array in arrays.items()
    }
    write_recording(folder, key, video, files, record)


def read_episode(folder: str | os.PathLike[str], key: str) -> Episode:
    """Read an episode back.

    Raises:
        MissingFileError: one of its files does not exist.
        SampleError: its parts do not fit together.
        NumericsError: a recording holds NaN, infinity or implausible values.
        VideoError: the video cannot be decoded.
    """
    record = EPISODES.read_record(folder, key)
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
        {name: value for name, value in record.items() if name not in (*own, EMBODIMENT)},
        _read_further(stem),
    )


def _read_further(stem: Path) -> dict[str, Values]:
    """The signals that only some recordings have."""
    found: dict[str, Values] = {}
    for signal in (CAMERA, THINGS):
        file = Path(f"{stem}.{signal.suffix}")
        if file.exists():
            found[signal.suffix] = signal.values(file)
    return found
