"""The path of a video's camera, found from its pictures by structure from motion (COLMAP).

Shape suffixes: T frames, N frames that have a place.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values
from nemo_cosmos.controls.camera import project_rays
from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.geometry.epipolar import Lens
from nemo_cosmos.evaluation.geometry.kept import LastResults
from nemo_cosmos.evaluation.metric import Features, Frames
from nemo_cosmos.platform import has, require

MIN_FRAMES = 3
MAX_FRAMES = 40
"""Frames that are reconstructed; of longer videos as many are taken, evenly spread."""
TIMEOUT_S = 1800

_kept: LastResults[CameraPath] = LastResults(most=4)


@dataclass(frozen=True)
class CameraPath:
    """Where a camera was, in axes and a unit of its own.

    Attributes:
        num_asked: how many frames were looked at.
        frame_N: those that have a place, in order.
        poses_N44: their camera-to-world matrices.
    """

    num_asked: int
    frame_N: NDArray[np.intp]
    poses_N44: NDArray[np.float64]


def describe_colmap() -> Features:
    """The reconstruction's library and its exact version, without loading it."""
    try:
        return Features("COLMAP", f"pycolmap {version('pycolmap')}")
    except PackageNotFoundError:
        return Features("COLMAP", "pycolmap, not installed")


def find_path(name: str, frames_THWC: Frames, camera: Values | None) -> CameraPath:
    """Reconstruct the path of a camera, and its focal length where the lens is not known.

    Several metrics ask for the same path, so the last few are kept.

    Args:
        name: the video's name, for messages.
        frames_THWC: uint8 RGB frames.
        camera: the arrays of ``camera.npz``, with ``size`` that of the frames; only its lens is
            looked at. None for an unknown one.

    Returns:
        The path, of no frame where the pictures give none.

    Raises:
        VideoError: there are too few frames, or COLMAP failed.
        MissingDependencyError: pycolmap is not installed.
    """
    if len(frames_THWC) < MIN_FRAMES:
        raise VideoError(
            f"'{name}' has {len(frames_THWC)} frames; a camera path needs at least {MIN_FRAMES}. "
            "Leave the metric out."
        )
    lens = {key: array for key, array in (camera or {}).items() if key != "poses"}
    seen = (
        f"{key}{np.asarray(array, np.float64).tolist()}".encode()
        for key, array in sorted(lens.items())
    )
    about = (frames_THWC.tobytes(), *seen)
    return _kept.get(about, lambda: _reconstruct(name, frames_THWC, camera))


def _reconstruct(name: str, frames_THWC: Frames, camera: Values | None) -> CameraPath:
    if not has("pycolmap"):
        require("pycolmap")  # raises; where it is there, it must not be loaded beside OpenCV
    num_asked = min(len(frames_THWC), MAX_FRAMES)
    asked = np.linspace(0, len(frames_THWC) - 1, num_asked).round().astype(int)
    with tempfile.TemporaryDirectory(prefix="nemo_cosmos_sfm_") as place:
        folder = Path(place)
        (folder / "pictures").mkdir()
        matrix_33 = _write_pictures(frames_THWC, camera, asked, folder / "pictures")
        lens = None
        if matrix_33 is not None:
            lens = [float(matrix_33[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2))]
        (folder / "task.json").write_text(json.dumps({"fx_fy_cx_cy": lens}), encoding="utf-8")
        poses = _run(name, folder)
    frames = sorted(int(Path(file).stem) for file in poses)
    poses_N44 = np.tile(np.eye(4), (len(frames), 1, 1))
    for row, frame in enumerate(frames):
        poses_N44[row, :3] = poses[_file_name(frame)]
    return CameraPath(num_asked, np.array(frames, np.intp), poses_N44)


def _file_name(frame: int) -> str:
    return f"{frame:06d}.png"


def _write_pictures(
    frames_THWC: Frames, camera: Values | None, asked: NDArray[np.int_], folder: Path
) -> NDArray[np.float64] | None:
    """Write frames as one pinhole sees them; return its matrix in their pixels, if it is known."""
    matrix_33, size, is_plain = None, frames_THWC.shape[1:3], True
    if camera is not None:
        matrices_T33 = np.asarray(camera["intrinsics"], np.float64)
        matrix_33 = matrices_T33[0] * [[1, 0, 1], [1, 1, 1], [1, 1, 1]]
        is_plain = bool(np.abs(matrices_T33 - matrix_33).max() < 1e-6)
        if "angle_polynomial" in camera:
            matrix_33, size, is_plain = Lens(camera, 0).matrix_33, (540, 960), False
    for frame in asked:
        picture_HWC = frames_THWC[frame]
        if camera is not None and matrix_33 is not None and not is_plain:
            picture_HWC = _as_pinhole(picture_HWC, camera, int(frame), matrix_33, size)
        cv2.imwrite(
            str(folder / _file_name(int(frame))), cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR)
        )
    return matrix_33


def _as_pinhole(
    picture_HWC: Frames,
    camera: Values,
    frame: int,
    matrix_33: NDArray[np.float64],
    size: tuple[int, int],
) -> Frames:
    """A frame as a pinhole with this matrix sees it; black where the lens saw nothing."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    pixels_N3 = np.stack([columns.ravel(), rows.ravel(), np.ones(columns.size)], axis=1)
    seen_N2 = project_rays(camera, frame, pixels_N3 @ np.linalg.inv(matrix_33).T) - 0.5
    maps = np.nan_to_num(seen_N2, nan=-1e4).astype(np.float32).reshape(*size, 2)
    return np.asarray(cv2.remap(picture_HWC, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR))


def _run(name: str, folder: Path) -> dict[str, list[list[float]]]:
    """Let the other process work; return a 3 x 4 matrix for each file that has a place."""
    script = Path(__file__).with_name("sfm_process.py")
    command = [sys.executable, "-P", str(script), str(folder)]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VideoError(
            f"COLMAP found no camera path of '{name}' within {TIMEOUT_S} s. Compare a shorter "
            "clip, or leave the metric out."
        ) from error
    result = folder / "poses.json"
    if ended.returncode != 0 or not result.exists():
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        raise VideoError(
            f"COLMAP failed on '{name}' with status {ended.returncode}: "
            f"{lines[-1] if lines else 'no message'}. Leave the metric out."
        )
    found: dict[str, list[list[float]]] = json.loads(result.read_text(encoding="utf-8"))
    return found
