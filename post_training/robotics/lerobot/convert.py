"""Convert LeRobot data sets to episodes that curation reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nemo_cosmos.controls.embodiment import Given
from nemo_cosmos.storage.outputs import check_apart
from post_training.robotics.conversion import ConversionReport
from post_training.robotics.lerobot.reading import ACTION, STATE, LeRobotData, LeRobotEpisode
from post_training.robotics.robot_sets import (
    RobotRecording,
    RobotSet,
    Size,
    convert_robot_set,
)


def convert_lerobot(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    size: Size | None = None,
    camera: str | Sequence[str] | None = None,
    as_action: bool = False,
    progress: Callable[[int, int], None] | None = None,
    embodiment: Given | None = None,
) -> ConversionReport:
    """Convert a whole data set; damaged episodes are left out, each with its reason.

    Each episode becomes ``{key}.mp4`` at the data set's rate (``{key}.{view}.mp4`` of further
    cameras, whose names are ``views`` of the JSON), ``{key}.json`` with its task, and the actions
    and states as ``{key}.robot_action.npy`` and ``{key}.robot_state.npy``, a row for each frame,
    which every later step cuts along.

    Args:
        folder: the folder that holds ``meta``, ``data`` and ``videos``.
        out: folder for the episodes and their manifest.
        size: height and width to resize the frames to; by default unchanged.
        camera: the camera to take, or several in order; by default all but depth maps.
        as_action: whether the actions are motions of the gripper seen from the gripper, and its
            opening last: those of ``bridge_7``. They become ``{key}.action.npy``, without the
            command at the last frame, which leads to no other.
        progress: called with the number of episodes done and the number in all.
        embodiment: what the actions are instead, as :func:`find_embodiment` takes it; they become
            ``{key}.action.npy`` as well.

    Raises:
        MissingFileError, SampleError: it is no data set that can be read, or its cameras are of
            several sizes.
        ConfigError: there is no such camera or embodiment, the actions are of another width, or
            the folder holds episodes of other settings.
        InputError: ``out`` is the data set's folder or lies inside it.
        StorageFullError: no space left; finished episodes are intact.
        MissingDependencyError: pyarrow is not installed.
    """
    check_apart(out, [folder])
    data = LeRobotData(folder)
    cameras = data.views([camera] if isinstance(camera, str) else camera)
    if size is None:
        data.check_alike(list(cameras.values()))
    robot_set = _robot_set(data, cameras, size)
    return convert_robot_set(robot_set, out, size, as_action, embodiment, progress)


def _robot_set(data: LeRobotData, cameras: Mapping[str, str], size: Size | None) -> RobotSet:
    def reader(episode: LeRobotEpisode) -> Callable[[], RobotRecording]:
        return lambda: _read(data, episode, cameras, size)

    return RobotSet(
        "lerobot",
        data.folder,
        data.fps,
        cameras,
        int(np.prod(data.info["features"].get(ACTION, {}).get("shape") or [0])),
        {
            f"lerobot_{each.index:06d}": (f"episode {each.index}", reader(each))
            for each in data.episodes()
        },
        robot=data.info.get("robot_type"),
        action_names=data.names_of(ACTION),
        state_names=data.names_of(STATE),
    )


def _read(
    data: LeRobotData, episode: LeRobotEpisode, cameras: Mapping[str, str], size: Size | None
) -> RobotRecording:
    arrays = data.arrays(episode)
    videos = {view: data.frames(episode, camera, size) for view, camera in cameras.items()}
    split = data.split_of(episode.index)
    return RobotRecording(arrays[ACTION], arrays.get(STATE), videos, episode.tasks, split)
