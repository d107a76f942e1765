"""Cameras of other formats to recordings: a video, ``camera.npz`` and a JSON beside each other.

What no file says is asked for, or looked for in the pictures and numbers:

- **Axes.** A format has its own, but tools write others' into its files. Where the pictures fit the
  other axes and not the format's, the scene is refused with both figures.
- **Units.** A camera that is faster than any is in centimetres, most likely; which unit it is must
  then be said. COLMAP and RealEstate10K have no unit at all.
- **Gaps.** Structure from motion leaves pictures out that it cannot place. A video must not jump,
  so that a scene becomes a recording for each stretch without gaps.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import CAMERA
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError, VideoError
from nemo_cosmos.storage.outputs import check_apart
from nemo_cosmos.video import Video
from post_training.camera.checks import AXES, check_axes, check_speed
from post_training.camera.colmap import find_model, read_colmap
from post_training.camera.frames import read_stretch, split_at_gaps
from post_training.camera.realestate import looks_like_realestate, read_realestate
from post_training.camera.scenes import Scene, Shot
from post_training.camera.transforms import NAME, read_transforms
from post_training.conversion import ConversionReport, convert_all
from post_training.recordings import Recordings, write_recording

RECORDINGS = Recordings(
    format="nemo_cosmos.camera_recordings",
    noun="camera recording",
    suffixes=(CAMERA.suffix,),
    required=frozenset({"camera"}),
    listed=("key", "split", "num_frames"),
)
"""Recordings with a camera in a folder: whether one is complete, its record, the list of all."""

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "any": 1.0}
"""Metres of a unit; ``any`` for a scale that nobody knows."""
FPS = 30.0


@dataclass(frozen=True)
class Reading:
    """How scenes are read.

    Attributes:
        images: the folder of pictures or videos, where it is another than the format's.
        size: height and width to resize the frames to; None for unchanged.
        fps: rate of the pictures in Hz, where the format does not say it.
        units: one of :data:`UNITS`; None where the numbers must show it.
        axes: ``opencv`` or ``opengl``, where they are others than the format's.
    """

    images: str | None = None
    size: tuple[int, int] | None = None
    fps: float = FPS
    units: str | None = None
    axes: str | None = None

    def __post_init__(self) -> None:
        if self.units is not None and self.units not in UNITS:
            raise ConfigError(f"units is '{self.units}'; expected one of {', '.join(UNITS)}.")
        if self.axes is not None and self.axes not in AXES:
            raise ConfigError(f"axes is '{self.axes}'; expected {' or '.join(AXES)}.")


def convert_cameras(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    reading: Reading | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Convert one scene or a folder of them; damaged ones are left out, each with its reason.

    Args:
        source: a scene's folder, a folder of scenes, a ``transforms.json``, or a text of
            RealEstate10K.
        out: folder for the recordings and their manifest.
        reading: how scenes are read.
        progress: called with the number of scenes done and the number in all.

    Raises:
        MissingFileError: there is no scene of a known format.
        ConfigError: ``out`` holds recordings of other settings.
        InputError: ``out`` is the source or lies inside it.
        StorageFullError: no space left; finished recordings are intact.
    """
    reading = reading or Reading()
    check_apart(out, [source])
    places = find_scenes(Path(source))
    rejected: dict[str, str] = {}
    recordings: dict[str, tuple[str, Callable[[], None]]] = {}

    def writer(key: str, scene: Scene, stretch: Sequence[Shot]) -> Callable[[], None]:
        return lambda: _write(out, key, scene, stretch, reading)

    for place in places:
        try:
            scene = read_scene(place, reading)
            stretches = list(split_at_gaps(scene))
        except (MissingFileError, SampleError, VideoError) as error:
            rejected[str(place)] = str(error)
            continue
        base = _unused(scene.key, recordings)
        for number, stretch in enumerate(stretches):
            key = base if len(stretches) == 1 else f"{base}_{number:03d}"
            name = scene.key if len(stretches) == 1 else f"{scene.key} from {stretch[0].row} on"
            recordings[key] = (name, writer(key, scene, stretch))
    settings = {
        "source": "cameras",
        "size": reading.size,
        "fps": reading.fps,
        "units": reading.units,
        "axes": reading.axes,
    }
    report = convert_all(RECORDINGS, out, settings, recordings, progress)
    report.rejected = {**rejected, **report.rejected}
    return report


def find_scenes(source: Path) -> list[Path]:
    """The scenes in a place: files and folders that :func:`read_scene` takes.

    Raises:
        MissingFileError: there is none, or no such place.
    """
    if not source.exists():
        raise MissingFileError(f"There is no '{source}' to read cameras of. Check the spelling.")
    found = _scenes_at(source)
    if not found and source.is_dir():
        below = sorted(place for place in source.iterdir() if place.is_dir())
        # DL3DV: a folder of a thousand scenes, each with a folder of its pictures' size.
        deeper = [inner for place in below for inner in sorted(place.iterdir()) if inner.is_dir()]
        found = [one for place in below for one in _scenes_at(place)]
        found = found or [one for place in deeper for one in _scenes_at(place)]
    if not found:
        raise MissingFileError(
            f"'{source}' holds no camera that is read: expected a COLMAP model (cameras and images "
            f"as .txt or .bin, in it or in 'sparse/0'), '{NAME}', texts of RealEstate10K, or "
            "folders of these."
        )
    return found


def _scenes_at(place: Path) -> list[Path]:
    if place.is_file():
        is_known = place.suffix == ".json" or looks_like_realestate(place)
        return [place] if is_known else []
    if not place.is_dir():
        return []
    if (place / NAME).is_file():
        return [place / NAME]
    if find_model(place) is not None:
        return [place]
    return [file for file in sorted(place.glob("*.txt")) if looks_like_realestate(file)]


def read_scene(place: Path, reading: Reading | None = None) -> Scene:
    """Read one scene of any format.

    Args:
        place: a file or folder of :func:`find_scenes`.
        reading: how it is read.

    Raises:
        MissingFileError, SampleError: a part is missing or damaged; names file and row.
    """
    reading = reading or Reading()
    images = None if reading.images is None else Path(reading.images)
    if place.suffix == ".json":
        return read_transforms(place, images, reading.axes)
    scene = read_colmap(place, images) if place.is_dir() else read_realestate(place, images)
    if reading.axes == "opengl":
        raise ConfigError(
            f"'{scene.file}' is of {scene.kind}, whose axes are OpenCV's. Leave axes out."
        )
    return scene


def _unused(key: str, taken: dict[str, tuple[str, Callable[[], None]]]) -> str:
    """The key, or one like it that no recording begins with."""
    key = re.sub(r"[^\w.-]+", "_", key).strip(".") or "scene"
    begun = {name for name in taken if name == key or name.startswith(f"{key}_")}
    return key if not begun else f"{key}_scene{len(begun)}"


def _write(
    out: str | os.PathLike[str], key: str, scene: Scene, stretch: Sequence[Shot], reading: Reading
) -> None:
    """Write the recording of a stretch."""
    fps = scene.fps or reading.fps
    frames_THWC, values = read_stretch(scene, stretch, reading.size)
    how = check_axes(scene, frames_THWC, values)
    units, said = _units(scene, values, fps, reading)
    values["poses"][:, :3, 3] *= UNITS[units]
    CAMERA.check(values, len(frames_THWC), f"'{scene.file}'")
    record = {
        "key": key,
        "split": "train",
        "source": scene.kind,
        "fps": fps,
        "num_frames": len(frames_THWC),
        "width": frames_THWC.shape[2],
        "height": frames_THWC.shape[1],
        "camera": {
            "file": str(scene.file),
            "axes": how,
            "units": said,
            "is_undistorted": any(shot.lens.distortion for shot in stretch),
            **scene.notes,
        },
    }
    files = {CAMERA.suffix: values}
    write_recording(out, key, Video(frames_THWC, fps), files, record)


def _units(
    scene: Scene, values: Mapping[str, Array], fps: float, reading: Reading
) -> tuple[str, str]:
    """The unit of a scene's positions, and what its recording's JSON says of it."""
    if reading.units is not None:
        return reading.units, "of no known length" if reading.units == "any" else "m"
    if scene.is_scaled_freely:
        return "any", f"of no known length, as {scene.kind} leaves them"
    check_speed(scene, values["poses"], fps)
    return "m", "taken as m, since the file does not say and the speed allows it"
