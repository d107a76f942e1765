"""Convert RLDS data sets to episodes that curation reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from nemo_cosmos.controls.embodiment import Given
from nemo_cosmos.storage.outputs import check_apart
from nemo_cosmos.video import Video
from post_training.robotics.conversion import ConversionReport
from post_training.robotics.rlds.reading import ACTION, STATE, RldsData, RldsEpisode
from post_training.robotics.robot_sets import RobotRecording, RobotSet, Size, convert_robot_set


def convert_rlds(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    fps: float,
    size: Size | None = None,
    camera: str | Sequence[str] | None = None,
    as_action: bool = False,
    progress: Callable[[int, int], None] | None = None,
    embodiment: Given | None = None,
) -> ConversionReport:
    """Convert a whole data set; damaged episodes are left out, each with its reason.

    The episodes become what :func:`convert_lerobot` makes of LeRobot's. Actions and states of
    several parts become one row, the parts in the order of their names.

    Args:
        folder: the folder of ``features.json`` and the TFRecord files, or one above it.
        out: folder for the episodes and their manifest.
        fps: rate of the recordings in Hz, which no file says.
        size: height and width to resize the frames to; by default unchanged.
        camera: the camera to take, or several in order; by default all but depth maps.
        as_action: whether the actions are those of ``bridge_7``; see :func:`convert_lerobot`.
        progress: called with the number of episodes done and the number in all.
        embodiment: what the actions are instead, as :func:`find_embodiment` takes it.

    Raises:
        MissingFileError, SampleError: it is no data set that can be read, or its cameras are of
            several sizes.
        ConfigError: there is no such camera or embodiment, the actions are of another width, the
            folder holds episodes of other settings, or there are several data sets.
        InputError: ``out`` is the data set's folder or lies inside it.
        StorageFullError: no space left; finished episodes are intact.
    """
    check_apart(out, [folder])
    data = RldsData(folder)
    cameras = data.views([camera] if isinstance(camera, str) else camera)
    if size is None:
        data.check_alike(list(cameras.values()))
    robot_set = _robot_set(data, cameras, size, fps)
    return convert_robot_set(robot_set, out, size, as_action, embodiment, progress)


def _robot_set(
    data: RldsData, cameras: Mapping[str, str], size: Size | None, fps: float
) -> RobotSet:
    def reader(episode: RldsEpisode) -> Callable[[], RobotRecording]:
        def read() -> RobotRecording:
            arrays, frames, tasks = data.read(episode, list(cameras.values()), size)
            videos = {view: Video(frames[camera], fps) for view, camera in cameras.items()}
            return RobotRecording(arrays[ACTION], arrays.get(STATE), videos, tasks, episode.split)

        return read

    return RobotSet(
        "rlds",
        data.folder,
        fps,
        cameras,
        data.action_width,
        {
            f"rlds_{each.split}_{each.index:06d}": (each.name, reader(each))
            for each in data.episodes()
        },
        action_names=data.names_of(ACTION),
        state_names=data.names_of(STATE),
    )
