"""Convert Bridge recordings to the episode layout.

Bridge, as NVIDIA and IRASim ship it, is a tree of ``annotation/{split}/{id}.json`` (words, 7-D
states and actions) and ``videos/{split}/{id}/rgb.mp4``. The actions of the annotation are checked
against the states: an action is the gripper's motion seen from the gripper before it, and 1 means
open.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.data.rlds import refuse_rlds
from nemo_cosmos.errors import MissingFileError, SampleError
from nemo_cosmos.storage.outputs import check_apart
from nemo_cosmos.video import Video, decode
from post_training.robotics.conversion import ConversionReport, convert_all
from post_training.robotics.episodes import Episode, write_episode
from post_training.robotics.signal import ACTION_DIM

BRIDGE_ACTION_SCALE = np.array([20.0] * 6 + [1.0])
"""Factors that bring Bridge's metres and radians per frame to about [-1, 1]."""

BRIDGE_FPS = 5.0
"""Rate of the robot's control loop; the shipped mp4 files claim 3."""

_STATE_TOLERANCE = 1e-3


def find_recordings(folder: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Return split and number of each annotation, in order.

    Raises:
        MissingFileError: the folder holds no annotation.
    """
    files = sorted(Path(folder).glob("annotation/*/*.json"))
    if not files:
        refuse_rlds(folder)
        raise MissingFileError(
            f"'{folder}' holds no 'annotation/<split>/<id>.json'. Name the folder above "
            "'annotation' and 'videos' of a Bridge data set."
        )
    return [(file.parent.name, file.stem) for file in files]


def read_recording(
    folder: str | os.PathLike[str],
    split: str,
    number: str,
    size: tuple[int, int] | None = None,
    fps: float = BRIDGE_FPS,
) -> Episode:
    """Read one recording as an episode.

    Args:
        folder: the folder that holds ``annotation`` and ``videos``.
        split: ``train`` or ``val``.
        number: number of the recording.
        size: height and width to resize the frames to; by default unchanged.
        fps: rate of the recording in Hz; the video files state a wrong one.

    Raises:
        MissingFileError: annotation or video does not exist.
        SampleError: the annotation is damaged, or its parts do not fit together.
        NumericsError: it holds NaN, infinity or implausible values.
        VideoError: the video cannot be decoded.
    """
    root = Path(folder)
    annotation = _read_annotation(root / "annotation" / split / f"{number}.json")
    states = _array(annotation, "state", number)
    actions = _array(annotation, "action", number)
    _check_actions(actions, states, number)
    video = decode(root / "videos" / split / number / "rgb.mp4", size=size)
    caption = str(annotation["texts"][0]).strip()
    return Episode(
        key=f"bridge_{split}_{number}",
        video=Video(video.frames_THWC, fps),
        actions=(actions * BRIDGE_ACTION_SCALE).astype(np.float32),
        states=states.astype(np.float32),
        action_scale=BRIDGE_ACTION_SCALE,
        caption=caption,
        split=split,
        record={
            "source": "bridge",
            "caption_source": "annotation",
            "task": "instruction",
            "instruction": caption,
            "robot": "WidowX 250",
        },
    )


def convert_bridge(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    fps: float = BRIDGE_FPS,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Convert a whole data set; damaged recordings are left out, each with its reason.

    Args:
        folder: the folder that holds ``annotation`` and ``videos``.
        out: folder for the episodes and their manifest.
        size: height and width to resize the frames to; by default unchanged.
        fps: rate of the recordings in Hz.
        progress: called with the number of recordings done and the number in all.

    Raises:
        MissingFileError: the folder holds no annotation.
        ConfigError: ``out`` holds episodes of other settings.
        InputError: ``out`` is the data set's folder or lies inside it.
        StorageFullError: no space left; finished episodes are intact.
    """
    check_apart(out, [folder])

    def writer(split: str, number: str) -> Callable[[], None]:
        return lambda: write_episode(out, read_recording(folder, split, number, size, fps))

    recordings = {
        f"bridge_{split}_{number}": (f"{split}/{number}", writer(split, number))
        for split, number in find_recordings(folder)
    }
    return convert_all(out, {"source": "bridge", "fps": fps, "size": size}, recordings, progress)


def _read_annotation(file: Path) -> JsonObject:
    try:
        annotation = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no annotation '{file}'.") from error
    except json.JSONDecodeError as error:
        raise SampleError(f"The annotation '{file}' is not valid JSON: {error}.") from error
    texts = annotation.get("texts") if isinstance(annotation, dict) else None
    if not texts or not str(texts[0]).strip():
        raise SampleError(
            f"The annotation '{file}' has no words under 'texts'. Add a caption, or leave the "
            "recording out."
        )
    return annotation


def _array(annotation: JsonObject, name: str, number: str) -> np.ndarray:
    try:
        array = np.array(annotation[name], dtype=np.float64)
    except (KeyError, ValueError, TypeError) as error:
        raise SampleError(f"Recording '{number}' has no proper '{name}' ({error}).") from error
    if array.ndim != 2 or array.shape[1] != ACTION_DIM:
        raise SampleError(
            f"Recording '{number}' has '{name}' of shape {array.shape}; expected (T, {ACTION_DIM})."
        )
    return array


def _check_actions(actions: np.ndarray, states: np.ndarray, number: str) -> None:
    """Refuse actions of another convention: a model would learn to move the wrong way."""
    if len(actions) != len(states) - 1:
        raise SampleError(
            f"Recording '{number}' has {len(actions)} actions and {len(states)} states; expected "
            "one action less than states."
        )
    rotations = Rotation.from_euler("xyz", states[:, 3:6])
    moved = rotations[:-1].inv().apply(np.diff(states[:, :3], axis=0))
    turned = (rotations[:-1].inv() * rotations[1:]).as_euler("xyz")
    wanted = np.concatenate([moved, turned, states[1:, 6:]], axis=1)
    worst = float(np.abs(actions - wanted).max(initial=0))
    if worst > _STATE_TOLERANCE:
        raise SampleError(
            f"The actions of recording '{number}' differ by {worst:.3g} from the motion between "
            "its states, seen from the gripper. Expected Bridge's convention; convert the actions "
            "first."
        )
