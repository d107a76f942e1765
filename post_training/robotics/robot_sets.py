"""Convert a robot data set of any form to episodes that curation reads.

What LeRobot, RLDS and others differ in is where a recording lies and how it is read
(:class:`RobotSet`); what becomes of it is the same. No form says what its actions mean: joint
angles, or a motion of the gripper. The caller must, with an embodiment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls.embodiment import EMBODIMENT, Embodiment, Given, find_embodiment
from nemo_cosmos.data.schema import find_views_fault
from nemo_cosmos.errors import ConfigError, SampleError, nearest_names
from nemo_cosmos.video import Video
from nemo_cosmos.video.resize import resize_frames
from post_training.robotics.conversion import ConversionReport, convert_all
from post_training.robotics.episodes import write_files
from post_training.robotics.signal import DEFAULT_EMBODIMENT

VIEWS = "views"
"""Entry of an episode's JSON with the names of its cameras, where it has several."""

Size = tuple[int, int]


@dataclass(frozen=True)
class RobotRecording:
    """What one recording of a data set holds.

    Attributes:
        actions: ``(T, A)``, what the robot was told at each frame.
        states: ``(T, S)``; None where the data set has none.
        videos: T frames of each camera, by the names of the views, the first one first.
        tasks: what the robot was told in words.
        split: ``train`` or another.
    """

    actions: NDArray[np.float32]
    states: NDArray[np.float32] | None
    videos: Mapping[str, Video]
    tasks: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class RobotSet:
    """A data set: what all of its recordings share, and what reads each.

    Attributes:
        source: the form, such as ``lerobot``.
        folder: where it lies.
        fps: its rate in Hz.
        cameras: the cameras to take, by what their views are called.
        action_width: how many numbers an action is.
        recordings: the name of each in the data set and what reads it, by its key.
        robot: the robot's type, where the data set says it.
        action_names: what the numbers of an action are called; empty where nothing says it.
        state_names: the same of a state.
    """

    source: str
    folder: Path
    fps: float
    cameras: Mapping[str, str]
    action_width: int
    recordings: Mapping[str, tuple[str, Callable[[], RobotRecording]]]
    robot: str | None = None
    action_names: Sequence[str] = ()
    state_names: Sequence[str] = ()


def convert_robot_set(
    data: RobotSet,
    out: str | os.PathLike[str],
    size: Size | None,
    as_action: bool,
    embodiment: Given | None,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Write all recordings; damaged ones are left out, each with its reason.

    Args:
        data: the data set.
        out: folder for the episodes and their manifest.
        size: height and width that the frames were resized to; None for unchanged.
        as_action: whether the actions are those of ``bridge_7``.
        embodiment: what they are instead, as :func:`find_embodiment` takes it.
        progress: called with the number of episodes done and the number in all.

    Raises:
        ConfigError: there is no such embodiment, the actions are of another width, or the folder
            holds episodes of other settings.
        StorageFullError: no space left; finished episodes are intact.
    """
    told = _find_told(data, as_action, embodiment)
    settings: dict[str, object] = {
        "source": data.source,
        "fps": data.fps,
        "size": size,
        "camera": next(iter(data.cameras.values())),
        "as_action": as_action,
    }
    if len(data.cameras) > 1:
        settings["views"] = dict(data.cameras)
    if embodiment is not None and told is not None:
        settings["embodiment"] = told.to_dict()

    def writer(key: str, name: str, read: Callable[[], RobotRecording]) -> Callable[[], None]:
        return lambda: _write(data, out, key, name, read(), told)

    recordings = {
        key: (name, writer(key, name, read)) for key, (name, read) in data.recordings.items()
    }
    report = convert_all(out, settings, recordings, progress)
    report.num_views = len(data.cameras)
    return report


def find_camera(folder: Path, cameras: Sequence[str], name: str | None) -> str:
    """Return the camera of a name, also by its last part; the first one by default.

    Args:
        folder: the data set, which messages name.
        cameras: the cameras that it has.
        name: the wanted one.

    Raises:
        ConfigError: there is none.
    """
    if not cameras:
        raise ConfigError(f"The data set '{folder}' has no camera, so it has no video.")
    if name is None:
        return cameras[0]
    short = {each.replace("/", ".").rpartition(".")[2]: each for each in cameras}
    if name not in (*cameras, *short):
        known = [*cameras, *short]
        raise ConfigError(
            f"The data set has no camera '{name}'. The nearest are {nearest_names(name, known)}."
        )
    return short.get(name, name)


def named_views(
    folder: Path, cameras: Sequence[str], view_of: Callable[[str], str]
) -> dict[str, str]:
    """Return cameras by what their views are called.

    Args:
        folder: the data set, which messages name.
        cameras: the chosen cameras, in order.
        view_of: what a camera's view is called.

    Raises:
        ConfigError: they are no views of one sample.
    """
    views = tuple(view_of(camera) for camera in cameras)
    if (fault := find_views_fault(views)) is not None:
        raise ConfigError(
            f"The cameras of '{folder}' are {', '.join(views)}, {fault} --camera chooses "
            "those to take."
        )
    return dict(zip(views, cameras, strict=True))


def check_sizes(said_by: Path, sizes: Mapping[str, Size | None]) -> None:
    """Require that a data set gives several cameras one size, where it says their sizes.

    Args:
        said_by: the file that says them.
        sizes: height and width of each camera.

    Raises:
        SampleError: they differ.
    """
    (first, expected), *others = sizes.items()
    for name, size in others:
        if size and expected and size != expected:
            raise SampleError(
                f"'{said_by}' says that '{name}' is {'x'.join(map(str, size))} and '{first}' "
                f"{'x'.join(map(str, expected))}; expected views of one size. "
                "Scale them (--size HEIGHTxWIDTH), or choose cameras (--camera)."
            )


def _find_told(data: RobotSet, as_action: bool, embodiment: Given | None) -> Embodiment | None:
    """What the actions are of; None where nobody states it."""
    if not as_action and embodiment is None:
        return None
    told = find_embodiment(DEFAULT_EMBODIMENT if embodiment is None else embodiment)
    if data.action_width != told.width:
        raise ConfigError(
            f"The actions of '{data.folder}' are {data.action_width} numbers, but the embodiment "
            f"'{told.name}' has {told.width}: {', '.join(told.names)}. Name their embodiment "
            "(--embodiment), or leave it and --as-action out; the numbers are then kept as "
            "'robot_action.npy'."
        )
    return told


def _write(
    data: RobotSet,
    out: str | os.PathLike[str],
    key: str,
    name: str,
    recording: RobotRecording,
    told: Embodiment | None,
) -> None:
    _check_alike(data, name, recording.videos)
    arrays = {"robot_action.npy": recording.actions}
    if recording.states is not None:
        arrays["robot_state.npy"] = recording.states
    if told is not None:
        # The command at the last frame leads to no other.
        arrays["action.npy"] = arrays.pop("robot_action.npy")[:-1]
        if (fault := told.find_row_fault(arrays["action.npy"])) is not None:
            raise SampleError(f"'action' of {name} {fault}")
    (_, first), *others = recording.videos.items()
    write_files(out, key, first, arrays, _record(data, recording, first, told), dict(others))


def _check_alike(data: RobotSet, name: str, videos: Mapping[str, Video]) -> None:
    """Require one size of all cameras of a recording."""
    (first_view, first), *others = videos.items()
    for view, video in others:
        if (video.height, video.width) != (first.height, first.width):
            raise SampleError(
                f"{name.capitalize()} of '{data.folder}' has '{data.cameras[view]}' of "
                f"{video.height}x{video.width} and '{data.cameras[first_view]}' of "
                f"{first.height}x{first.width}; expected views of one size. Scale them (--size "
                "HEIGHTxWIDTH), or choose cameras (--camera)."
            )


def _record(
    data: RobotSet, recording: RobotRecording, video: Video, told: Embodiment | None
) -> dict[str, object]:
    words = ". ".join(dict.fromkeys(recording.tasks))
    return {
        "split": recording.split,
        **({"caption": words, "instruction": words, "caption_source": "task"} if words else {}),
        "fps": video.fps,
        "num_frames": video.num_frames,
        "width": video.width,
        "height": video.height,
        "source": data.source,
        "task": "instruction",
        "camera": next(iter(data.cameras.values())),
        **({VIEWS: list(data.cameras)} if len(data.cameras) > 1 else {}),
        "robot": data.robot,
        **({} if told is None else {EMBODIMENT: told.name}),
        "action": {
            "names": list(data.action_names),
            "meaning": "as the robot takes it"
            if told is None
            else f"{told.title}, as whoever converted it stated",
        },
        "state": {"names": list(data.state_names)},
    }


def decode_pictures(
    pictures: Iterable[bytes], size: Size | None, where: str, place: str
) -> NDArray[np.uint8]:
    """Decode the pictures that a recording holds one by one.

    Args:
        pictures: PNG or JPEG files, one for each frame; at least one.
        size: height and width to scale to; None to keep theirs.
        where: the camera and the recording, for the message.
        place: the words before a picture's number, such as ``in row``.

    Returns:
        the frames, ``(T, H, W, 3)`` in RGB.

    Raises:
        SampleError: a picture is damaged, or of another size than the first.
    """
    frames: list[NDArray[np.uint8]] = []
    for number, picture in enumerate(pictures):
        frame = None
        if picture:  # OpenCV refuses no bytes with an error of its own
            frame = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR_RGB)
        if frame is None or (frames and frame.shape != frames[0].shape):
            found = "a damaged picture" if frame is None else f"a picture of {frame.shape[:2]}"
            raise SampleError(
                f"{where} has {found} {place} {number}; expected a PNG or JPEG of one size. Repair "
                "the data set, or leave the episode out."
            )
        frames.append(np.asarray(frame, np.uint8))
    frames_THWC = np.stack(frames)
    return frames_THWC if size is None else resize_frames(frames_THWC, size)
