"""Look at the cameras of a data set before a model is trained on them.

Each fault is looked for where the data can show it: poses that are no rotations in their numbers,
axes in the pictures (points that two pictures share lie on lines that the right axes give), units
in the speed. What the data cannot show is asked for.

Shape suffixes: T frames; 44 and 33 matrices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.controls import CAMERA, Values
from nemo_cosmos.errors import MissingFileError, NemoCosmosError, counted
from nemo_cosmos.video import decode
from post_training.camera.checks import MAX_SPEED_M_S, axes_errors, fits_better, inverted_errors
from post_training.camera.conversion import FPS, find_scenes, read_scene
from post_training.camera.frames import read_stretch, split_at_gaps
from post_training.finding import Finding, Findings

FORMAT = "nemo_cosmos.camera_inspection"
_MOST_LOOKED_AT = 6
"""Clips whose pictures are compared with their cameras; each takes about a second."""
_STILL_M, _STILL_DEG = 1e-3, 0.1
_SLOW_M_S = 0.01
_SPREAD = 50.0
"""Clips whose ways differ by more than this are hardly all in one unit."""

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class CameraClip:
    """The camera of one clip.

    Attributes:
        place: its file, for people.
        values: the arrays of ``camera.npz``, as the file holds them.
        fps: rate in Hz.
        has_unit: whether its positions are said to be in metres, or nothing is said.
        frames: reads its pictures; None where there are none.
    """

    place: str
    values: Values
    fps: float
    has_unit: bool = True
    frames: Callable[[], Frames] | None = None

    @property
    def path_T44(self) -> NDArray[np.float64]:
        """The poses as the first camera sees them."""
        poses_T44 = np.asarray(self.values["poses"], np.float64)
        return np.asarray(np.linalg.inv(poses_T44[0]) @ poses_T44)


@dataclass(frozen=True)
class CameraStatistics:
    """A measure over all clips: its name, its unit, and its least, middle and largest value."""

    name: str
    units: str
    least: float
    median: float
    most: float


@dataclass(frozen=True)
class CameraInspection(Findings):
    """What was found of the cameras of a data set.

    Attributes:
        place: the data set.
        num_recordings: clips with a camera that could be read.
        num_frames: their frames.
        numbers: what was measured.
        findings: one for each fault that was looked for.
    """

    place: str
    num_recordings: int
    num_frames: int
    numbers: tuple[CameraStatistics, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> JsonObject:
        """Plain data."""
        return {
            "format": FORMAT,
            "place": self.place,
            "num_recordings": self.num_recordings,
            "num_frames": self.num_frames,
            "numbers": [asdict(one) for one in self.numbers],
            "findings": [asdict(one) for one in self.findings],
        }


@dataclass
class _Read:
    """Clips that can be used, and those that cannot, each with its reason."""

    clips: list[CameraClip] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)


def holds_cameras(place: str | PathLike[str]) -> bool:
    """Whether a data set is one of cameras and not of a robot's actions."""
    folder = Path(place)
    if folder.is_dir() and next(folder.glob(f"*.{CAMERA.suffix}"), None) is not None:
        return next(folder.glob("*.action.npy"), None) is None
    try:
        return bool(find_scenes(folder))
    except NemoCosmosError:
        return False


def inspect_cameras(
    place: str | PathLike[str], *, limit: int | None = None, with_video: bool = True
) -> CameraInspection:
    """Measure the cameras of a data set and look for the classic faults.

    Args:
        place: a folder of recordings (``{key}.camera.npz``), or what ``convert cameras`` reads.
        limit: how many clips to read at most.
        with_video: whether to compare the cameras with the pictures.

    Raises:
        MissingFileError: there is no camera.
    """
    read = _Read()
    for name, clip in _clips(Path(place)):
        if isinstance(clip, str):
            read.damaged[name] = clip
        else:
            read.clips.append(clip)
        if limit is not None and len(read.clips) + len(read.damaged) >= limit:
            break
    findings = [_rotations(read)]
    if read.clips:
        if with_video:
            findings.append(_axes(read.clips))
        findings += [_units(read.clips), _still(read.clips)]
    frames = sum(len(clip.values["poses"]) for clip in read.clips)
    numbers = _statistics(read.clips) if read.clips else ()
    return CameraInspection(fspath(place), len(read.clips), frames, numbers, tuple(findings))


def _clips(place: Path) -> Iterator[tuple[str, CameraClip | str]]:
    """The clips of a data set by name; what is wrong in place of one that is damaged."""
    files = sorted(place.glob(f"*.{CAMERA.suffix}")) if place.is_dir() else []
    if not files:
        yield from _scene_clips(place)
    for file in files:
        try:
            yield str(file), _of_file(file)
        except NemoCosmosError as error:
            yield str(file), str(error)


def _of_file(file: Path) -> CameraClip:
    stem = file.name.removesuffix(f".{CAMERA.suffix}")
    values = CAMERA.values(file)
    record: JsonObject = {}
    if (beside := file.with_name(f"{stem}.json")).is_file():
        try:
            record = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise MissingFileError(f"'{beside}' is no JSON: {error}.") from error
    poses = np.asarray(values.get("poses", np.zeros(0)))
    CAMERA.check(values, int(record.get("num_frames", len(poses))), f"'{file}'")
    said = record.get("camera")
    has_unit = not (isinstance(said, dict) and "no known length" in str(said.get("units")))
    video = file.with_name(f"{stem}.mp4")
    frames = (lambda: decode(video).frames_THWC) if video.is_file() else None
    return CameraClip(str(file), values, float(record.get("fps", FPS)), has_unit, frames)


def _scene_clips(place: Path) -> Iterator[tuple[str, CameraClip | str]]:
    for source in find_scenes(place):
        try:
            scene = read_scene(source)
            for stretch in split_at_gaps(scene):
                frames_THWC, values = read_stretch(scene, stretch, None)
                fps, has_unit = scene.fps or FPS, not scene.is_scaled_freely
                name = f"{scene.file} from {stretch[0].row} on"
                yield name, CameraClip(name, values, fps, has_unit, _given(frames_THWC))
        except NemoCosmosError as error:
            yield str(source), str(error)


def _given(frames_THWC: Frames) -> Callable[[], Frames]:
    return lambda: frames_THWC


def _rotations(read: _Read) -> Finding:
    name = "poses and lenses"
    num = len(read.clips) + len(read.damaged)
    if not read.damaged:
        return Finding(name, "ok", counted(num, "clip"), "all poses are rotations with a position")
    place, why = next(iter(read.damaged.items()))
    more = f" ({len(read.damaged) - 1} more)" if len(read.damaged) > 1 else ""
    return Finding(name, "found", place + more, why, "Mend or leave out what the message names.")


def _axes(clips: Sequence[CameraClip]) -> Finding:
    """Compare the cameras with their pictures: as they are, and as other tools write them.

    A move that fits both ways, such as a step to the side, has no vote.
    """
    errors, votes = [], {"own": 0, "opengl": 0, "inverse": 0}
    for clip in _spread_over(clips):
        if clip.frames is None:
            continue
        try:
            frames_THWC, width = clip.frames(), float(np.asarray(clip.values["size"])[1])
            own, opengl = axes_errors(clip.place, frames_THWC, dict(clip.values))
            inverse = inverted_errors(clip.place, frames_THWC, dict(clip.values))
        except NemoCosmosError:
            continue  # too few points to tell, or no picture
        errors.append((own, opengl, inverse))
        other, name = min((opengl, "opengl"), (inverse, "inverse"))
        votes[name] += fits_better(other, own, int(width))
        votes["own"] += fits_better(own, max(opengl, inverse), int(width))
    if not errors:
        return Finding(
            "axes", "ask", "poses", "the pictures have too few points to tell, or there are none",
            "Make sure: camera to world, x right, y down, z forward.",
        )  # fmt: skip
    own, opengl, inverse = np.median(errors, axis=0)
    said = (
        f"points lie {own:.2f} px off the lines that the cameras give; with OpenGL's axes "
        f"{opengl:.2f}, as world to camera {inverse:.2f}; "
        f"{votes['own']} of {counted(len(errors), 'clip')} fit as they are alone"
    )
    most = max(votes, key=lambda name: votes[name])
    if votes[most] == 0:
        fix = "These moves fit any axes. Make sure: camera to world, x right, y down, z forward."
        return Finding("axes", "ask", "poses", said, fix)
    if most == "own":
        return Finding("axes", "ok", "poses", said)
    fix = (
        "These are world to camera: write the inverse of each matrix."
        if most == "inverse"
        else "These axes are OpenGL's: change the signs of each matrix's second and third column."
    )
    return Finding("axes", "found", "poses", f"{said}, {votes[most]} another way", fix)


def _spread_over(clips: Sequence[CameraClip]) -> list[CameraClip]:
    count = min(len(clips), _MOST_LOOKED_AT)
    return [clips[place] for place in np.linspace(0, len(clips) - 1, count).astype(int)]


def _units(clips: Sequence[CameraClip]) -> Finding:
    """Guess the unit from the speed, and whether all clips share it."""
    moving = [clip for clip in clips if _way(clip) > _STILL_M]
    if not moving:
        return Finding("units", "ask", "positions", "no camera moves", "Say what they are in.")
    speed = float(np.median([_speed(clip) for clip in moving]))
    ways = np.array([_way(clip) for clip in moving])
    said = f"{speed:.3g} units a second in the middle, ways of {ways.min():.3g} to {ways.max():.3g}"
    if speed > MAX_SPEED_M_S:
        guess = "cm" if speed / 100 <= MAX_SPEED_M_S else "mm"
        fix = (
            f"Too fast for metres; probably {guess}. Convert with --units {guess}, or cm, mm, any."
        )
        return Finding("units", "found", "positions", said, fix)
    spread = float(np.quantile(ways, 0.95) / max(float(np.quantile(ways, 0.05)), 1e-9))
    if not all(clip.has_unit for clip in moving) or spread > _SPREAD:
        why = "have no unit, or each its own" if spread <= _SPREAD else f"differ {spread:.0f}-fold"
        fix = "Leave unit_m out of the control's options: each clip is then scaled by its own way."
        return Finding("units", "ask", "positions", f"{said}; they {why}", fix)
    if speed < _SLOW_M_S:
        fix = "Slow for metres: kilometres, or a scale that nobody knows? Leave unit_m out then."
        return Finding("units", "ask", "positions", said, fix)
    unit = max(float(f"{np.quantile(ways, 0.9):.1g}"), 0.01)
    fix = f"As metres they suit the control's option unit_m: {unit:g}."
    return Finding("units", "ok", "positions", said, fix)


def _still(clips: Sequence[CameraClip]) -> Finding:
    still = [clip.place for clip in clips if _way(clip) < _STILL_M and _turn(clip) < _STILL_DEG]
    said = f"{len(still)} of {counted(len(clips), 'clip')} stand still"
    if len(still) * 2 > len(clips):
        fix = "A model learns to stand still from these; leave them out, or look at the poses."
        return Finding("stillness", "found", "poses", f"{said}, such as {still[0]}", fix)
    return Finding("stillness", "ok", "poses", said)


def _way(clip: CameraClip) -> float:
    """How far the camera gets from where it begins, in its unit."""
    return float(np.linalg.norm(clip.path_T44[:, :3, 3], axis=1).max())


def _speed(clip: CameraClip) -> float:
    steps_T = np.linalg.norm(np.diff(clip.path_T44[:, :3, 3], axis=0), axis=1)
    return float(np.percentile(steps_T, 90)) * clip.fps if len(steps_T) else 0.0


def _turn(clip: CameraClip) -> float:
    """The largest angle from the first camera, in degrees."""
    traces_T = np.trace(clip.path_T44[:, :3, :3], axis1=1, axis2=2)
    return float(np.degrees(np.arccos(np.clip((traces_T - 1) / 2, -1, 1))).max())


def _angle_of_view(clip: CameraClip) -> float:
    width = float(np.asarray(clip.values["size"])[1])
    focal = float(np.asarray(clip.values["intrinsics"])[0, 0, 0])
    return float(np.degrees(2 * np.arctan(width / (2 * focal))))


def _statistics(clips: Sequence[CameraClip]) -> tuple[CameraStatistics, ...]:
    measures: Sequence[tuple[str, str, Callable[[CameraClip], float]]] = (
        ("turn", "degrees", _turn),
        ("way", "m", _way),
        ("speed", "m/s", _speed),
        ("angle of view", "degrees", _angle_of_view),
    )
    return tuple(
        CameraStatistics(name, units, *_three([measure(clip) for clip in clips]))
        for name, units, measure in measures
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    found: Array = np.array(values)
    return float(found.min()), float(np.median(found)), float(found.max())
