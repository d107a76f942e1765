"""Did the camera go where it was told? The path found in a video against the given one.

Structure from motion finds the path from the pictures, with the given lens
(:mod:`.reconstruction`); :mod:`.trajectory` says how far it is from the given one. Where the
pictures give no path, the errors are those of a camera that stands still: a model cannot improve
its errors by making videos that nobody can reconstruct, and ``camera_pose_success`` says how many
those are. Papers leave such videos out, so that their errors are not comparable with these unless
all succeed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values, fit_camera
from nemo_cosmos.evaluation.geometry.reconstruction import CameraPath, describe_colmap, find_path
from nemo_cosmos.evaluation.geometry.trajectory import (
    path_errors,
    rotation_errors_deg,
    translation_errors,
)
from nemo_cosmos.evaluation.metric import Case, CaseMetric

MIN_FOUND = 0.9
"""Share of the frames that must have a place in one reconstruction, so that it is a success."""


def pose_success(case: Case) -> float:
    """1 where structure from motion finds the camera of almost all frames, else 0.

    Args:
        case: a video with the signal ``camera``.
    """
    return float(_is_found(_path(case)[0]))


def reconstruction_success(case: Case) -> float:
    """As :func:`pose_success`, of a video whose camera nobody knows.

    Args:
        case: a video.
    """
    return float(_is_found(find_path(case.name, case.generated_THWC, None)))


def rotation_error_curve(case: Case) -> NDArray[np.float64]:
    """Angle between the found and the given rotation since the first frame, ``(T,)`` in degrees.

    Args:
        case: a video with the signal ``camera``.
    """
    path, camera = _path(case)
    given_T44 = np.asarray(camera["poses"], np.float64)
    if not _is_found(path):
        still_T33 = np.tile(np.eye(3), (len(given_T44), 1, 1))
        return rotation_errors_deg(still_T33, given_T44[:, :3, :3])
    errors_N = rotation_errors_deg(path.poses_N44[:, :3, :3], given_T44[path.frame_N, :3, :3])
    return np.interp(np.arange(len(given_T44)), path.frame_N, errors_N)


def translation_error_curve(case: Case) -> NDArray[np.float64]:
    """Distance of the found from the given positions, ``(T,)``, in lengths of the given path.

    Args:
        case: a video with the signal ``camera``.

    Raises:
        VideoError: the given camera does not travel.
    """
    path, camera = _path(case)
    given_T3 = np.asarray(camera["poses"], np.float64)[:, :3, 3]
    if not _is_found(path):
        return translation_errors(np.zeros_like(given_T3), given_T3)
    errors_N = translation_errors(path.poses_N44[:, :3, 3], given_T3[path.frame_N])
    return np.interp(np.arange(len(given_T3)), path.frame_N, errors_N)


def path_error_curve(case: Case) -> NDArray[np.float64]:
    """Distance from the given positions as seen from the first camera, ``(T,)``, in path lengths.

    Args:
        case: a video with the signal ``camera``.

    Raises:
        VideoError: the given camera does not travel.
    """
    path, camera = _path(case)
    given_T44 = np.asarray(camera["poses"], np.float64)
    if not _is_found(path):
        return path_errors(np.tile(np.eye(4), (len(given_T44), 1, 1)), given_T44)
    errors_N = path_errors(path.poses_N44, given_T44[path.frame_N])
    return np.interp(np.arange(len(given_T44)), path.frame_N, errors_N)


def find_path_of(case: Case) -> CameraPath | None:
    """The path found in a video; None where almost all frames have no place in it.

    Args:
        case: a video with the signal ``camera``.
    """
    path, _ = _path(case)
    return path if _is_found(path) else None


def _path(case: Case) -> tuple[CameraPath, Values]:
    camera = fit_camera(case.recorded["camera"], case.generated_THWC.shape[1:3])
    return find_path(case.name, case.generated_THWC, camera), camera


def _is_found(path: CameraPath) -> bool:
    return len(path.frame_N) >= MIN_FOUND * path.num_asked


RECONSTRUCTION_SUCCESS = CaseMetric(
    name="reconstruction_success",
    higher_is_better=True,
    description="share of videos in which structure from motion finds a camera, its lens unknown",
    needs=frozenset(),
    compute=reconstruction_success,
    describe_features=describe_colmap,
)
CAMERA_POSE_SUCCESS = CaseMetric(
    name="camera_pose_success",
    higher_is_better=True,
    description="share of videos in which structure from motion finds the camera",
    needs=frozenset({"camera"}),
    compute=pose_success,
    describe_features=describe_colmap,
)
CAMERA_ROTATION_ERROR = CaseMetric(
    name="camera_rotation_error_deg",
    unit="degrees",
    higher_is_better=False,
    description="angle between the camera found in the video and the given one, since its start",
    needs=frozenset({"camera"}),
    per_frame=rotation_error_curve,
    describe_features=describe_colmap,
)
CAMERA_TRANSLATION_ERROR = CaseMetric(
    name="camera_translation_error",
    unit="path lengths",
    higher_is_better=False,
    description="distance of the camera found in the video from the given path, after Procrustes",
    needs=frozenset({"camera"}),
    per_frame=translation_error_curve,
    describe_features=describe_colmap,
)
CAMERA_PATH_ERROR = CaseMetric(
    name="camera_path_error",
    unit="path lengths",
    higher_is_better=False,
    description="the same as seen from the first camera: a path in the wrong direction is far",
    needs=frozenset({"camera"}),
    per_frame=path_error_curve,
    describe_features=describe_colmap,
)
