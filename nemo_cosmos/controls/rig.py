"""A rig of cameras on a car as the signal ``rig.npz``, and the latent of layout videos.

::

    RIG.check({"poses": poses_V44, "intrinsics": matrices_V33, "size": sizes_V2}, num_frames)

A row belongs to a view, in the order in which the sample's JSON names its ``views`` (``names``
repeats them, for a rig on its own). Poses lead
from the camera (OpenCV's axes: x right, y down, z forward) to the vehicle (x forward, y left, z up;
the origin is the point whose path ``trajectory.npy`` is). The rig does not move on the vehicle.

A fisheye has an f-theta polynomial as in ``camera.npz``; where only some views are fisheyes, the
rows of the pinholes are zeros.

Shape suffixes: V views, T frames; 33 and 44 matrices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.batch import MAX_VIEWS
from nemo_cosmos.controls.camera import CAMERA, find_camera_fault, fit_camera
from nemo_cosmos.controls.signal import Signal
from nemo_cosmos.controls.signal_array import SignalArray
from nemo_cosmos.controls.signal_files import Values

MAX_FROM_VEHICLE_M = 20.0
"""No camera is farther from its vehicle's origin; a larger distance is of another unit."""

LAYOUT_VIDEO = "layout.mp4"
"""Ending of the video that draws a camera's lanes and things as lines: an HD map."""


def camera_of(values: Values, view: int, vehicle_T44: NDArray[np.float64]) -> dict[str, Array]:
    """One view of a moving rig as the arrays of ``camera.npz``.

    Args:
        values: the arrays of ``rig.npz``.
        view: the view's row.
        vehicle_T44: poses of the vehicle, vehicle to world.
    """
    num_frames = len(vehicle_T44)
    camera: dict[str, Array] = {
        "poses": vehicle_T44 @ np.asarray(values["poses"][view], np.float64),
        "intrinsics": np.tile(values["intrinsics"][view], (num_frames, 1, 1)),
        "size": np.asarray(values["size"][view]),
    }
    polynomials = values.get("angle_polynomial")
    if polynomials is not None and np.any(polynomials[view]):
        camera["angle_polynomial"] = polynomials[view]
    return camera


def find_rig_fault(values: Values) -> str | None:
    """Say what is wrong with a rig whose arrays have the right shapes; None where nothing is.

    Args:
        values: the arrays of ``rig.npz``.
    """
    counts = {name: len(array) for name, array in values.items() if np.ndim(array)}
    num_views = counts["poses"]
    if not 1 <= num_views <= MAX_VIEWS or set(counts.values()) != {num_views}:
        listed = ", ".join(f"{count} in '{name}'" for name, count in counts.items())
        return (
            f"has rows for different numbers of views ({listed}); expected a row for each of 1 to "
            f"{MAX_VIEWS} views in every array."
        )
    for view in range(num_views):
        one = camera_of(values, view, np.eye(4)[None])
        others = {name: array for name, array in values.items() if name not in one}
        others.pop("angle_polynomial", None)
        if (fault := find_camera_fault({**others, **one})) is not None:
            return f"{fault} (view {view})"
        away_m = float(np.linalg.norm(one["poses"][0, :3, 3]))
        if away_m > MAX_FROM_VEHICLE_M:
            return (
                f"has view {view} {away_m:.3g} m from the vehicle's origin; expected at most "
                f"{MAX_FROM_VEHICLE_M:g} m, camera to vehicle. Write metres, or poses relative to "
                "the vehicle."
            )
    return None


def fit_rig(
    values: Values, outer: tuple[int, int], size: tuple[int, int] | None = None
) -> dict[str, Array]:
    """The rig of frames that were resized and cropped, as :func:`.camera.fit_camera` says it.

    Args:
        values: the arrays of ``rig.npz``.
        outer: height and width that the frames of each view were resized to.
        size: height and width that were cut out of their middle, or that they were padded to.
    """
    still = np.eye(4)[None]
    fitted = [
        fit_camera(camera_of(values, view, still), outer, size)
        for view in range(len(values["poses"]))
    ]
    matrices_V33 = np.stack([one["intrinsics"][0] for one in fitted])
    sizes_V2 = np.stack([one["size"] for one in fitted])
    return dict(values) | {"intrinsics": matrices_V33, "size": sizes_V2}


def _of_views(name: str, is_required: bool = True) -> SignalArray:
    """An array of the camera with a row for each view in place of time."""
    (array,) = (one for one in CAMERA.arrays if one.name == name)
    convention = array.convention.replace("camera to world", "camera to vehicle")
    return SignalArray(
        name,
        None,
        (None, *(array.shape or ())),
        units=array.units,
        convention=convention,
        is_required=is_required,
    )


RIG = Signal(
    "rig.npz",
    (
        _of_views("poses"),
        _of_views("intrinsics"),
        _of_views("size"),
        _of_views("angle_polynomial", is_required=False),
        SignalArray("names", None, (None,), is_numeric=False, is_required=False),
    ),
    find_rig_fault,
)
"""The rig of a vehicle's cameras."""

LAYOUT = Signal(
    "layout.npy",
    (
        SignalArray(
            "layout",
            None,
            (None, None, None, None),
            convention="latent (C, V T, H, W) of the layout videos, by the pictures' tokenizer",
        ),
    ),
)
"""The layout videos as tokenised data have them; before, they are ``{key}.layout.mp4``."""
