"""Did the camera go where it was told? By direct alignment, for small or soft pictures.

:mod:`.alignment` finds the path of a video whose first frame's depth was recorded. As with
structure from motion, a video in which most frames cannot be laid onto the first has the errors of
a camera that stands still, and ``aligned_success`` says how many those are.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values, fit_recorded
from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.geometry.alignment import AlignedPath, find_aligned_path
from nemo_cosmos.evaluation.geometry.trajectory import rotation_errors_deg
from nemo_cosmos.evaluation.metric import Case, CaseMetric, Features

Floats = NDArray[np.float64]

MIN_AGREEMENT = 0.4
"""A frame that agrees less with the first one has no place; pictures of other rooms reach 0.2."""
MIN_FOUND = 0.9
"""Share of the frames that must have a place, so that the video is a success."""
MIN_RELIEF = 0.15
"""Least spread of the depths that the first frame shows, as a share of their mean."""


def describe_alignment() -> Features:
    """The method and the library that it rests on."""
    return Features("direct alignment, version 1", f"OpenCV {cv2.__version__}")


def success(case: Case) -> float:
    """1 where almost all frames can be laid onto the first, else 0.

    Args:
        case: a video with the signals ``camera`` and ``scene_depth``.
    """
    return float(_is_found(_path(case)[0]))


def rotation_curve_deg(case: Case) -> Floats:
    """Angle between the found and the given rotation since the first frame, ``(T,)`` in degrees.

    Args:
        case: a video with the signals ``camera`` and ``scene_depth``.
    """
    found_T44, given_T44 = _paths(case)
    return rotation_errors_deg(found_T44[:, :3, :3], given_T44[:, :3, :3])


def position_curve_cm(case: Case) -> Floats:
    """Distance of the found from the given position, seen from the first camera, in centimetres.

    Args:
        case: a video with the signals ``camera`` and ``scene_depth``.
    """
    found_T44, given_T44 = _paths(case)
    return np.asarray(100 * np.linalg.norm(found_T44[:, :3, 3] - given_T44[:, :3, 3], axis=1))


def _paths(case: Case) -> tuple[Floats, Floats]:
    """The found and the given path, both as seen from the first camera."""
    path, camera = _path(case)
    poses_T44 = np.asarray(camera["poses"], np.float64)
    given_T44 = np.linalg.inv(poses_T44[0]) @ poses_T44
    if not _is_found(path):
        return np.tile(np.eye(4), (len(given_T44), 1, 1)), given_T44
    return path.poses_T44, given_T44


def _path(case: Case) -> tuple[AlignedPath, Values]:
    size = case.generated_THWC.shape[1:3]
    fitted = fit_recorded({name: case.recorded[name] for name in ("camera", "scene_depth")}, size)
    camera = fitted["camera"]
    if "angle_polynomial" in camera:
        raise VideoError(
            f"The camera of '{case.name}' is a fisheye; direct alignment is for pinholes. Leave "
            "the metric out, or use those of structure from motion."
        )
    depth_HW = np.asarray(fitted["scene_depth"]["depth_m"][0], np.float64)
    if float(depth_HW.std() / depth_HW.mean()) < MIN_RELIEF:
        raise VideoError(
            f"The first frame of '{case.name}' shows little more than one wall, before which a "
            "turn and a step to the side look alike. Leave the metric out, or start where near "
            "and far things are in view."
        )
    return find_aligned_path(case.generated_THWC, camera, depth_HW), camera


def _is_found(path: AlignedPath) -> bool:
    return float((path.agreement_T >= MIN_AGREEMENT).mean()) >= MIN_FOUND


_NEEDS = frozenset({"camera", "scene_depth"})
ALIGNED_SUCCESS = CaseMetric(
    name="aligned_success",
    higher_is_better=True,
    description="share of videos whose frames can be laid onto the first, its depth being known",
    needs=_NEEDS,
    compute=success,
    describe_features=describe_alignment,
)
ALIGNED_ROTATION_ERROR = CaseMetric(
    name="aligned_rotation_error_deg",
    unit="degrees",
    higher_is_better=False,
    description="angle between the camera found by direct alignment and the given one",
    needs=_NEEDS,
    per_frame=rotation_curve_deg,
    describe_features=describe_alignment,
)
ALIGNED_POSITION_ERROR = CaseMetric(
    name="aligned_position_error_cm",
    unit="cm",
    higher_is_better=False,
    description="distance of the camera found by direct alignment from the given path",
    needs=_NEEDS,
    per_frame=position_curve_cm,
    describe_features=describe_alignment,
)
