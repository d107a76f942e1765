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
_OTHER_FITS_BETTER, _DOES_NOT_FIT_PX = 3.0, 3.0


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
    looked = slice(0, _NUM_LOOKED_AT)
    own = {**values, "poses": values["poses"][looked], "intrinsics": values["intrinsics"][looked]}
    other = {**own, "poses": own["poses"] @ OPENGL_TO_OPENCV}
    try:
        own_px, other_px = (
            float(np.median(given_camera_errors(_case(scene, frames_THWC[looked], camera))[1:]))
            for camera in (own, other)
        )
    except VideoError:
        return f"{scene.axes}, as the format says; the pictures have too few points to tell"
    if own_px > _DOES_NOT_FIT_PX and other_px * _OTHER_FITS_BETTER < own_px:
        wrong = scene.axes
        right = AXES[1 - AXES.index(wrong)]
        fix = f"Give --axes {right}." if scene.kind == "transforms" else "Write OpenCV's."
        raise SampleError(
            f"The pictures of '{scene.file}' do not fit cameras with {wrong} axes: their points "
            f"lie {own_px:.1f} px off the lines that the cameras give, and {other_px:.1f} px with "
            f"{right} axes. {fix}"
        )
    return f"{scene.axes}; points lie {own_px:.2f} px off their lines, {other_px:.2f} px otherwise"


def _case(scene: Scene, frames_THWC: NDArray[np.uint8], camera: dict[str, Array]) -> Case:
    return Case(scene.key, frames_THWC, recorded={CAMERA.name: camera})


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
