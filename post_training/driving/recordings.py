"""Drives on disk: one layout for rendered and real ones.

A drive is a group of files in one folder::

    {key}.mp4              the first view, T frames; {key}.{view}.mp4 of each further one
    {key}.layout.mp4       what a map draws into it, and {key}.{view}.layout.mp4; optional
    {key}.trajectory.npy   (T, 3) positions of the car in metres, from its first frame's axes;
                           left out where nobody knows its path
    {key}.rig.npz          where its cameras are, and their lenses
    {key}.camera.npz       the first camera's path, and {key}.{view}.camera.npz: for metrics
    {key}.scene_depth.npz  of rendered drives, and {key}.{view}.scene_depth.npz: for metrics
    {key}.json             words, source, split, rate, views

See :mod:`post_training.recordings` for what is complete, and for the list of all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.batch import Views, view_suffix
from nemo_cosmos.controls import CAMERA, RIG, Values, encode_arrays
from nemo_cosmos.controls.depth import SCENE_DEPTH
from nemo_cosmos.controls.registry import TRAJECTORY
from nemo_cosmos.controls.rig import LAYOUT_VIDEO, camera_of
from nemo_cosmos.errors import SampleError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import Video, encode_video
from post_training.driving.path import vehicle_poses
from post_training.recordings import CRF, Recordings, write_recording

DRIVES = Recordings(
    format="nemo_cosmos.drives",
    noun="drive",
    suffixes=(RIG.suffix,),
    required=frozenset({"split", "views"}),
    listed=("key", "split", "task", "caption", "num_frames", "views", "rig"),
)
"""Drives in a folder: whether one is complete, its record, and the list of all."""

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class DriveRecording:
    """One drive.

    Attributes:
        key: its name, unique within the folder.
        views: frames ``(T, H, W, 3)`` of each camera by its name, in the rig's order.
        fps: rate in Hz.
        trajectory_T3: positions of the car in metres, in the axes of its first frame, or poses
            ``(T, 4, 4)``; None where nobody knows its path.
        rig: the arrays of ``rig.npz``.
        caption: what is seen, as a person would say it.
        split: ``train`` or ``val``.
        layouts: frames of the layout videos by view; empty without.
        depths: metres along each camera's axis to what each pixel shows, ``(T, H, W)``, of
            rendered drives; empty without.
        record: all other entries of the JSON.

    Raises:
        SampleError, NumericsError: path, rig and views do not fit together.
    """

    key: str
    views: Mapping[str, Frames]
    fps: float
    trajectory_T3: Array | None
    rig: Values
    caption: str
    split: str = "train"
    layouts: Mapping[str, Frames] = field(default_factory=dict)
    depths: Mapping[str, Array] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where, first = f"'{self.key}'", next(iter(self.views.values()))
        for name, frames_THWC in (*self.views.items(), *self.layouts.items()):
            if frames_THWC.shape != first.shape:
                raise SampleError(
                    f"The view '{name}' of {where} has the shape {frames_THWC.shape}, the first "
                    f"one {first.shape}; expected the same moments and size from all cameras."
                )
        if self.layouts and set(self.layouts) != set(self.views):
            raise SampleError(
                f"{where} has layouts of {', '.join(self.layouts)}, but the views "
                f"{', '.join(self.views)}; expected a layout of each view, or none."
            )
        if self.trajectory_T3 is not None:
            TRAJECTORY.check({TRAJECTORY.name: self.trajectory_T3}, len(first), where)
        RIG.check(self.rig, len(first), where)

    @property
    def names(self) -> Views:
        """Names of the views."""
        return tuple(self.views)

    def cameras(self) -> dict[str, dict[str, Array]]:
        """The arrays of ``camera.npz`` of each view, in the axes of the car's first frame.

        None where nobody knows the car's path.
        """
        if self.trajectory_T3 is None:
            return {}
        path = torch.from_numpy(np.asarray(self.trajectory_T3, np.float64))[None]
        vehicle_T44 = vehicle_poses(path)[0].numpy()
        return {
            view: camera_of(self.rig, number, vehicle_T44) for number, view in enumerate(self.views)
        }

    def describe(self) -> JsonObject:
        """The content of the JSON."""
        num_frames, height, width, _ = next(iter(self.views.values())).shape
        return {
            "key": self.key,
            "split": self.split,
            "caption": self.caption,
            "fps": self.fps,
            "num_frames": num_frames,
            "width": width,
            "height": height,
            "views": list(self.names),
            **self.record,
        }


def write_drive(folder: str | os.PathLike[str], drive: DriveRecording) -> None:
    """Write the files of a drive, the JSON last.

    Raises:
        StorageFullError: no space left; without its JSON the drive counts as not written.
    """
    stem = Path(folder) / drive.key
    Path(f"{stem}.json").unlink(missing_ok=True)
    videos = [
        *((view, "mp4", frames) for view, frames in drive.views.items() if view != drive.names[0]),
        *((view, LAYOUT_VIDEO, frames) for view, frames in drive.layouts.items()),
    ]
    for view, ending, frames_THWC in videos:
        suffix = view_suffix(drive.names, view, ending)
        encode_video(f"{stem}.{suffix}", Video(frames_THWC, drive.fps), crf=CRF)
    arrays = [(view, CAMERA.suffix, camera) for view, camera in drive.cameras().items()]
    arrays += [
        (view, SCENE_DEPTH.suffix, {"depth_m": depth_THW.astype(np.float16)})
        for view, depth_THW in drive.depths.items()
    ]
    for view, suffix, values in arrays:
        with atomic_path(f"{stem}.{view_suffix(drive.names, view, suffix)}") as temporary:
            temporary.write_bytes(encode_arrays(suffix, values))
    files: dict[str, Values] = {RIG.suffix: dict(drive.rig)}
    if drive.trajectory_T3 is not None:
        path = np.asarray(drive.trajectory_T3, np.float32)
        files[TRAJECTORY.suffix] = {TRAJECTORY.name: path}
    first = Video(next(iter(drive.views.values())), drive.fps)
    write_recording(folder, drive.key, first, files, drive.describe())
