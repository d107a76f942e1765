"""A camera's pictures and places as other formats have them, before they become a recording.

Readers (:mod:`.colmap`, :mod:`.transforms`, :mod:`.realestate`) bring their format to this:
OpenCV's axes, camera to world, pixels from the picture's upper left corner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls.camera import ROTATION_TOLERANCE
from nemo_cosmos.errors import SampleError

Matrix = NDArray[np.float64]

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
#: OpenCV takes four coefficients or more; some formats have one or two.
_FEWEST_COEFFICIENTS = 4
#: From OpenGL's camera axes (x right, y up, z backwards) to OpenCV's (x right, y down, z forward).
OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Lens:
    """A pinhole and how its picture is distorted.

    Attributes:
        matrix_33: ``[fx s cx; 0 fy cy; 0 0 1]`` in pixels.
        size: height and width of the picture that it counts in; (1, 1) for any picture, whose
            width and height are then its units.
        distortion: OpenCV's coefficients k1 k2 p1 p2 k3 k4 k5 k6; empty for none.
    """

    matrix_33: Matrix
    size: tuple[float, float]
    distortion: tuple[float, ...] = ()

    @classmethod
    def pinhole(
        cls,
        focals: tuple[float, float],
        centre: tuple[float, float],
        size: tuple[float, float],
        distortion: Sequence[float] = (),
    ) -> Lens:
        """Make a lens of its numbers; zero distortion is none.

        Args:
            focals: fx and fy in pixels.
            centre: cx and cy in pixels.
            size: height and width in pixels.
            distortion: OpenCV's coefficients.
        """
        matrix_33 = np.array([[focals[0], 0, centre[0]], [0, focals[1], centre[1]], [0, 0, 1]])
        if not any(distortion):
            return cls(matrix_33, size)
        padding = (0.0,) * (_FEWEST_COEFFICIENTS - len(distortion))
        return cls(matrix_33, size, (*distortion, *padding))


@dataclass(frozen=True)
class Shot:
    """One picture and its camera.

    Attributes:
        row: where its camera is in the file, for messages: ``line 12``, ``frames[3]``.
        pose_44: camera to world.
        lens: its lens.
        picture: the picture's file; None where the pictures are in the scene's video.
        time_s: when it is shown in the video.
    """

    row: str
    pose_44: Matrix
    lens: Lens
    picture: Path | None = None
    time_s: float = 0.0


@dataclass(frozen=True)
class Scene:
    """One camera's way through a scene.

    Attributes:
        key: a name for its recording.
        file: the file with the cameras, for messages.
        kind: the format.
        axes: the axes in which the format writes a camera: ``opencv`` or ``opengl``.
        shots: pictures in the order in which they were taken.
        video: the video that holds the pictures; None where they are files.
        fps: rate in Hz, where the format says it.
        is_scaled_freely: whether the format's positions have no unit, as structure from motion
            leaves them.
        notes: what the recording's JSON says besides.
    """

    key: str
    file: Path
    kind: str
    axes: str
    shots: Sequence[Shot]
    video: Path | None = None
    fps: float | None = None
    is_scaled_freely: bool = False
    notes: dict[str, str] = field(default_factory=dict)


def checked_pose(numbers: object, where: str) -> Matrix:
    """A camera's matrix of 3x4 or 4x4 numbers as 4x4.

    Args:
        numbers: rows of numbers.
        where: file and row, for messages.

    Raises:
        SampleError: it is no rigid motion.
    """
    try:
        matrix = np.array(numbers, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    is_shaped = matrix.shape in ((3, 4), (4, 4))
    if not is_shaped or not np.isfinite(matrix).all():
        if is_shaped:
            found = "NaN or infinity"
        else:
            found = f"the shape {matrix.shape}" if matrix.size else f"{numbers!r:.40}"
        raise SampleError(
            f"{where} has no camera matrix: expected 3 or 4 rows of 4 finite numbers, [R t; 0 0 0 "
            f"1], and found {found}. Write it again, or leave the picture out."
        )
    pose_44 = np.eye(4)
    pose_44[: len(matrix)] = matrix
    rotation_33 = pose_44[:3, :3]
    skew = float(np.abs(rotation_33.T @ rotation_33 - np.eye(3)).max())
    if skew > ROTATION_TOLERANCE or np.abs(pose_44[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise SampleError(
            f"{where} has a camera matrix that is no rotation with a position: R^T R is off by "
            f"{skew:.2g} and the last row is {pose_44[3].tolist()}. Expected [R t; 0 0 0 1] with R "
            "without scale. Transpose it, or divide the scale out of R."
        )
    if np.linalg.det(rotation_33) < 0:
        raise SampleError(
            f"{where} has a camera matrix that mirrors (its determinant is -1): one axis points "
            "the other way. Write right-handed axes."
        )
    # Files have few digits: the nearest exact rotation.
    left_33, _, right_33 = np.linalg.svd(rotation_33)
    pose_44[:3, :3] = left_33 @ right_33
    return pose_44


def inverted(pose_44: Matrix) -> Matrix:
    """Camera to world of world to camera."""
    turned = np.eye(4)
    turned[:3, :3] = pose_44[:3, :3].T
    turned[:3, 3] = -pose_44[:3, :3].T @ pose_44[:3, 3]
    return turned


def finite(text: object, where: str, name: str) -> float:
    """A finite number of a file.

    Args:
        text: what stands there.
        where: file and row, for messages.
        name: what it is.

    Raises:
        SampleError: it is none.
    """
    try:
        number = float(str(text))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SampleError(f"{where} has '{text!s:.40}' as {name}; expected a finite number.")
    return number
