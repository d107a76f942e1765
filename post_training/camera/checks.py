"""What no file says of a camera and its pictures and numbers show: whose axes, and which unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import CAMERA
from nemo_cosmos.errors import SampleError, VideoError
from nemo_cosmos.evaluation.geometry.given_camera import given_camera_errors
from nemo_cosmos.evaluation.metric import Case
from post_training.camera.scenes import OPENGL_TO_OPENCV, Scene

AXES = ("opencv", "opengl")
MAX_SPEED_M_S = 20.0
"""A camera that a person carries, and most on drones and on cars in a city, are slower."""

_NUM_LOOKED_AT = 24
"""Frames by which axes are told apart."""
_OTHER_FITS_BETTER, _DOES_NOT_FIT = 3.0, 0.005
"""How many times better, and how badly, in widths of the picture; 3 pixels of 640."""


def check_axes(scene: Scene, frames_THWC: NDArray[np.uint8], values: dict[str, Array]) -> str:
    """Refuse axes that the pictures contradict; say how they are known.

    Points that two pictures share lie on lines that the two cameras decide, with the right axes.

    Args:
        scene: the scene.
        frames_THWC: its frames.
        values: the arrays of ``camera.npz``.

    Raises:
        SampleError: the other axes fit, and the scene's do not.
    """
    try:
        own_px, other_px = axes_errors(scene.key, frames_THWC, values)
    except VideoError:
        return f"{scene.axes}, as the format says; the pictures have too few points to tell"
    if fits_better(other_px, own_px, frames_THWC.shape[2]):
        wrong = scene.axes
        right = AXES[1 - AXES.index(wrong)]
        fix = f"Give --axes {right}." if scene.kind == "transforms" else "Write OpenCV's."
        raise SampleError(
            f"The pictures of '{scene.file}' do not fit cameras with {wrong} axes: their points "
            f"lie {own_px:.1f} px off the lines that the cameras give, and {other_px:.1f} px with "
            f"{right} axes. {fix}"
        )
    return f"{scene.axes}; points lie {own_px:.2f} px off their lines, {other_px:.2f} px otherwise"


def axes_errors(
    name: str, frames_THWC: NDArray[np.uint8], values: dict[str, Array]
) -> tuple[float, float]:
    """How many pixels points lie off the lines of the cameras: as they are, and with other axes.

    Args:
        name: the clip's name, for messages.
        frames_THWC: its frames.
        values: the arrays of ``camera.npz``.

    Raises:
        VideoError: the pictures have too few points to tell.
    """
    own = _first_frames(values)
    other = {**own, "poses": own["poses"] @ OPENGL_TO_OPENCV}
    return _off_px(name, frames_THWC, own), _off_px(name, frames_THWC, other)


def inverted_errors(name: str, frames_THWC: NDArray[np.uint8], values: dict[str, Array]) -> float:
    """The same with the matrices taken as world to camera.

    Args:
        name: the clip's name, for messages.
        frames_THWC: its frames.
        values: the arrays of ``camera.npz``.

    Raises:
        VideoError: the pictures have too few points to tell.
    """
    own = _first_frames(values)
    return _off_px(name, frames_THWC, {**own, "poses": np.linalg.inv(own["poses"])})


def fits_better(other_px: float, own_px: float, width: int) -> bool:
    """Whether other axes fit pictures, and a file's own do not.

    Args:
        other_px: how far points lie off with the other axes.
        own_px: the same with the file's.
        width: width of the pictures.
    """
    return own_px > _DOES_NOT_FIT * width and other_px * _OTHER_FITS_BETTER < own_px


def _first_frames(values: dict[str, Array]) -> dict[str, Array]:
    first = {name: values[name][:_NUM_LOOKED_AT] for name in ("poses", "intrinsics")}
    return {**values, **first}


def _off_px(name: str, frames_THWC: NDArray[np.uint8], camera: dict[str, Array]) -> float:
    case = Case(name, frames_THWC[:_NUM_LOOKED_AT], recorded={CAMERA.name: camera})
    return float(np.median(given_camera_errors(case)[1:]))


def check_speed(scene: Scene, poses_T44: NDArray[np.float64], fps: float) -> None:
    """Ask for the unit of a camera that is too fast for metres.

    Args:
        scene: the scene, for messages.
        poses_T44: camera to world in the file's unit.
        fps: rate of the pictures in Hz.

    Raises:
        SampleError: the camera is faster than any; says what its speed is in other units.
    """
    steps_T = np.linalg.norm(np.diff(poses_T44[:, :3, 3], axis=0), axis=1)
    speed = float(np.percentile(steps_T, 90)) * fps
    if speed > MAX_SPEED_M_S:
        raise SampleError(
            f"The camera of '{scene.file}' moves {speed:.0f} units a second: {speed:.0f} m/s if "
            f"they are metres, {speed / 100:.1f} m/s if centimetres, {speed / 1000:.2f} m/s if "
            "millimetres. Say which: --units m, cm or mm, or any for a scale that nobody knows; or "
            "give the pictures' true rate with --fps."
        )
