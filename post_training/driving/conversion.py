"""A folder of synchronous videos with a calibration to drives.

Every view is one video of the folder, whose name ends with the view's: ``clip_front_left.mp4``.
All must show the same moments: one length, one rate, one size. A long film becomes several drives,
one after the other, so that no more than a part of it is in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import fit_recorded
from nemo_cosmos.controls.registry import TRAJECTORY
from nemo_cosmos.data.schema import find_views_fault
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from nemo_cosmos.provenance.belonging import is_same_rate
from nemo_cosmos.storage.outputs import check_apart
from nemo_cosmos.video import decode, probe
from post_training.conversion import ConversionReport, convert_all
from post_training.driving.calibration import read_calibration
from post_training.driving.recordings import DRIVES, DriveRecording, write_drive
from post_training.driving.rigs import built_in_rigs

_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_SPLIT_SIDES = ("front_left", "front_right")
MAX_SPEED_MPS = 150.0
"""No car is faster; a path that is has another unit, or a jump."""


@dataclass(frozen=True)
class RigReading:
    """How a folder is read.

    Attributes:
        cameras: the calibration's name of the camera of each view, in the order of the views.
        calibration: a JSON file, or a rig of ``conf/rigs.yaml`` or ``FILE.yaml:NAME``.
        trajectory: a file of positions ``(T, 3)`` or poses ``(T, 4, 4)`` of the car; None without,
            for models that no path steers.
        layouts: folder of layout videos, named like the views' own; None without.
        caption: what is seen, as a person would say it.
        size: height and width to resize the frames to; None for unchanged.
        frames: numbers of the first frame and of the one after the last; None for all.
        drive_frames: most frames of a drive.
        mount_m: where the first camera is on the vehicle.
        key: begin of the drives' names.
    """

    cameras: Mapping[str, str]
    calibration: str
    trajectory: str | None = None
    layouts: str | None = None
    caption: str = "A drive, seen by the cameras of a car."
    size: tuple[int, int] | None = None
    frames: tuple[int, int] | None = None
    drive_frames: int = 121
    mount_m: Sequence[float] = field(default=(0.0, 0.0, 0.0))
    key: str = "drive"

    def __post_init__(self) -> None:
        if (fault := find_views_fault(tuple(self.cameras))) is not None:
            raise ConfigError(f"The views are {', '.join(self.cameras)}, {fault}")
        if self.drive_frames < 1 or (self.frames and not 0 <= self.frames[0] < self.frames[1]):
            raise ConfigError(
                f"frames is {self.frames} and drive_frames {self.drive_frames}; expected a first "
                "frame before an end, and at least one frame."
            )


def convert_rig(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    reading: RigReading,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Convert the videos of a rig; all is checked before anything is written.

    Args:
        source: folder of the videos.
        out: folder for the drives and their manifest.
        reading: how it is read.
        progress: called with the number of drives done and the number in all.

    Raises:
        MissingFileError: a view, or another file, is missing.
        SampleError: views of different length, rate or size, an unknown lens, a pose that is no
            rotation, or a trajectory of another length; names file, entry and expected form.
        ConfigError: ``out`` holds drives of other settings.
        InputError: ``out`` is the source or lies inside it.
        StorageFullError: no space left; finished drives are intact.
    """
    check_apart(out, [source])
    videos = find_views(Path(source), tuple(reading.cameras))
    layouts = {}
    if reading.layouts is not None:
        layouts = find_views(Path(reading.layouts), tuple(reading.cameras))
    num_frames, fps, size = _check_together([*videos.values(), *layouts.values()])
    rig = read_calibration(reading.calibration, reading.cameras, size, reading.mount_m)
    rig = dict(fit_recorded({"rig": rig}, reading.size or size)["rig"])
    path = _read_path(reading.trajectory, num_frames, fps)
    begin, end = reading.frames or (0, num_frames)
    if end > num_frames:
        raise SampleError(
            f"'{next(iter(videos.values()))}' has {num_frames} frames; those from {begin} to {end} "
            "were asked for. Choose fewer."
        )

    def writer(key: str, numbers: range) -> Callable[[], None]:
        def read(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
            return {
                view: decode(file, frame_indices=numbers, size=reading.size).frames_THWC
                for view, file in files.items()
            }

        return lambda: write_drive(
            out,
            DriveRecording(
                key,
                read(videos),
                fps,
                None if path is None else path[numbers.start : numbers.stop],
                rig,
                reading.caption,
                layouts=read(layouts),
                record={"source": str(source), "caption_source": "person", "rig": "calibrated"},
            ),
        )

    recordings = {}
    for number, first in enumerate(range(begin, end, reading.drive_frames)):
        numbers = range(first, min(first + reading.drive_frames, end))
        key = f"{reading.key}_{number:06d}"
        name = f"frames {numbers.start} to {numbers.stop} of {source}"
        recordings[key] = (name, writer(key, numbers))
    settings = {
        "source": "rig",
        "views": dict(reading.cameras),
        "size": reading.size,
        "frames": [begin, end],
        "drive_frames": reading.drive_frames,
    }
    return convert_all(DRIVES, out, settings, recordings, progress)


def find_views(folder: Path, views: Sequence[str]) -> dict[str, Path]:
    """The video of each view in a folder.

    Args:
        folder: the folder.
        views: names of the views.

    Raises:
        MissingFileError: there is no folder, or a view has no video.
        SampleError: a view has several.
    """
    # 'clip_front_left.mp4' is no view 'left': the longest name that any rig has counts.
    names = {
        *views,
        *_SPLIT_SIDES,
        *(view for rig in built_in_rigs().values() for view in rig.views),
    }
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder '{folder}'. Check the spelling.")
    found: dict[str, list[Path]] = {view: [] for view in views}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in _ENDINGS:
            continue
        ends = [name for name in names if file.stem == name or file.stem.endswith(f"_{name}")]
        view = max(ends, key=len, default="")
        if view in found:
            found[view].append(file)
    for view, fitting in found.items():
        if not fitting:
            raise MissingFileError(
                f"'{folder}' has no video of the view '{view}': expected one whose name is or ends "
                f"with it, such as 'clip_{view}.mp4'. Put it there, or leave the view out of the "
                "list."
            )
        if len(fitting) > 1:
            raise SampleError(
                f"'{folder}' has several videos of the view '{view}': "
                f"{', '.join(file.name for file in fitting)}. Keep one in the folder."
            )
    return {view: fitting[0] for view, fitting in found.items()}


def _check_together(files: Sequence[Path]) -> tuple[int, float, tuple[int, int]]:
    """Frames, rate and size that all videos share."""
    first = probe(files[0])
    for file in files[1:]:
        info = probe(file)
        found = (info.num_frames, info.height, info.width)
        wanted = (first.num_frames, first.height, first.width)
        if found != wanted or not is_same_rate(info.fps, first.fps):
            raise SampleError(
                f"'{file}' has {info.num_frames} frames of {info.height}x{info.width} at "
                f"{info.fps:g}/s, '{files[0]}' {first.num_frames} of {first.height}x{first.width} "
                f"at {first.fps:g}/s; expected synchronous views of one length, size and rate. Cut "
                "or resample the videos together."
            )
    return first.num_frames, first.fps, (first.height, first.width)


def _read_path(file: str | None, num_frames: int, fps: float) -> Array | None:
    """The car's path, checked against the videos."""
    if file is None:
        return None
    values = TRAJECTORY.values(file)
    TRAJECTORY.check_given(values, num_frames, f"'{file}'")
    path = values[TRAJECTORY.name]
    places_T3 = np.asarray(path[:, :3, 3] if path.ndim == 3 else path, np.float64)
    speeds_mps = np.linalg.norm(np.diff(places_T3, axis=0), axis=1) * fps
    if speeds_mps.size and speeds_mps.max() > MAX_SPEED_MPS:
        raise SampleError(
            f"'{file}' moves at {speeds_mps.max():.4g} m/s from row {speeds_mps.argmax()} to the "
            f"next; expected at most {MAX_SPEED_MPS:g}. Write metres, and a row for each frame."
        )
    return path
