"""Convert LeRobot data sets to episodes that curation reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nemo_cosmos.controls.embodiment import EMBODIMENT, Embodiment, Given, find_embodiment
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.storage.outputs import check_apart
from nemo_cosmos.video import Video
from post_training.robotics.conversion import ConversionReport, convert_all
from post_training.robotics.episodes import write_files
from post_training.robotics.lerobot.reading import ACTION, STATE, LeRobotData, LeRobotEpisode
from post_training.robotics.signal import DEFAULT_EMBODIMENT

VIEWS = "views"
"""Entry of an episode's JSON with the names of its cameras, where it has several."""


def convert_lerobot(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
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
    chosen = data.views([camera] if isinstance(camera, str) else camera)
    if size is None:
        data.check_alike(list(chosen.values()))
    width = int(np.prod(data.info["features"].get(ACTION, {}).get("shape") or [0]))
    told = None
    if as_action or embodiment is not None:
        told = find_embodiment(DEFAULT_EMBODIMENT if embodiment is None else embodiment)
    if told is not None and width != told.width:
        raise ConfigError(
            f"The actions of '{data.folder}' are {width} numbers, but the embodiment '{told.name}' "
            f"has {told.width}: {', '.join(told.names)}. Name their embodiment (--embodiment), or "
            "leave it and --as-action out; the numbers are then kept as 'robot_action.npy'."
        )

    def writer(episode: LeRobotEpisode, key: str) -> Callable[[], None]:
        def write() -> None:
            arrays = data.arrays(episode)
            videos = _synchronous(data, episode, chosen, size)
            named = {f"robot_{name.rpartition('.')[2]}.npy": rows for name, rows in arrays.items()}
            if told is not None:
                named["action.npy"] = named.pop("robot_action.npy")[:-1]
                if (fault := told.find_row_fault(named["action.npy"])) is not None:
                    raise SampleError(f"'action' of episode {episode.index} {fault}")
            first, *others = videos.items()
            record = _record(data, episode, first[1], chosen, told)
            write_files(out, key, first[1], named, record, dict(others))

        return write

    episodes = {f"lerobot_{each.index:06d}": each for each in data.episodes()}
    settings = {
        "source": "lerobot",
        "fps": data.fps,
        "size": size,
        "camera": next(iter(chosen.values())),
        "as_action": as_action,
    }
    if len(chosen) > 1:
        settings["views"] = chosen
    if embodiment is not None and told is not None:
        settings["embodiment"] = told.to_dict()
    recordings = {
        key: (f"episode {each.index}", writer(each, key)) for key, each in episodes.items()
    }
    report = convert_all(out, settings, recordings, progress)
    report.num_views = len(chosen)
    return report


def _synchronous(
    data: LeRobotData,
    episode: LeRobotEpisode,
    cameras: Mapping[str, str],
    size: tuple[int, int] | None,
) -> dict[str, Video]:
    """The frames of all cameras; each has as many as the episode has rows."""
    videos = {view: data.frames(episode, camera, size) for view, camera in cameras.items()}
    view, first = next(iter(videos.items()))
    for name, video in videos.items():
        if (video.height, video.width) != (first.height, first.width):
            raise SampleError(
                f"Episode {episode.index} of '{data.folder}' has '{cameras[name]}' of "
                f"{video.height}x{video.width} and '{cameras[view]}' of "
                f"{first.height}x{first.width}; expected views of one size. Scale them (--size "
                "HEIGHTxWIDTH), or choose cameras (--camera)."
            )
    return videos


def _record(
    data: LeRobotData,
    episode: LeRobotEpisode,
    video: Video,
    cameras: Mapping[str, str],
    embodiment: Embodiment | None,
) -> dict[str, object]:
    words = ". ".join(dict.fromkeys(episode.tasks))
    return {
        "split": data.split_of(episode.index),
        **({"caption": words, "instruction": words, "caption_source": "task"} if words else {}),
        "fps": video.fps,
        "num_frames": video.num_frames,
        "width": video.width,
        "height": video.height,
        "source": "lerobot",
        "task": "instruction",
        "camera": next(iter(cameras.values())),
        **({VIEWS: list(cameras)} if len(cameras) > 1 else {}),
        "robot": data.info.get("robot_type"),
        **({} if embodiment is None else {EMBODIMENT: embodiment.name}),
        "action": {
            "names": data.names_of(ACTION),
            "meaning": "as the robot takes it"
            if embodiment is None
            else f"{embodiment.title}, as whoever converted it stated",
        },
        "state": {"names": data.names_of(STATE)},
    }
