"""Positions, cameras and paths in a mirrored world.

The world is mirrored at the plane where one of its axes is 0. Positions change the sign of that
axis; a camera's picture is mirrored left for right with it. What becomes of a robot's numbers, its
embodiment says (:mod:`.motions`).

Shape suffixes: T rows. 44: a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.errors import SampleError

LATERAL_AXIS = 1
"""A robot's y leads to its left: the axis to mirror where no camera says another."""


def mirror_axis_of(poses_T44: Array) -> int:
    """The world's axis that lies nearest to the picture's horizontal.

    Mirrored at it, what moved to the right along the axis moves to the left along it, as the
    picture shows, and the camera stays on its side of the scene.

    Args:
        poses_T44: the camera's poses, camera to world; the first one counts.
    """
    right_3 = np.asarray(poses_T44, np.float64)[0, :3, 0]
    return int(np.argmax(np.abs(right_3)))


def mirror_points(points_3: Array, axis: int) -> Array:
    """Mirror positions or velocities, whose last axis is x, y, z."""
    signs_3 = np.ones(3)
    signs_3[axis] = -1
    return np.asarray(points_3 * signs_3).astype(points_3.dtype)


def mirror_poses(poses_T44: Array, axis: int) -> Array:
    """Mirror poses of cameras, which are mirrored left for right as well.

    Args:
        poses_T44: camera to world; x right, y down, z forward.
        axis: the world's axis that changes its sign.
    """
    world_4, camera_4 = np.ones(4), np.array([-1.0, 1, 1, 1])
    world_4[axis] = -1
    return np.asarray(world_4[:, None] * poses_T44 * camera_4).astype(poses_T44.dtype)


def mirror_trajectory(rows: Array, axis: int) -> Array:
    """Mirror a path: positions ``(T, 3)``, or a camera's poses ``(T, 4, 4)``.

    Raises:
        SampleError: it has another shape.
    """
    if rows.shape[1:] == (3,):
        return mirror_points(rows, axis)
    if rows.shape[1:] == (4, 4):
        return mirror_poses(rows, axis)
    raise SampleError(
        f"has shape {rows.shape}, of which no mirror image is known; expected positions (T, 3) or "
        "poses (T, 4, 4). Tokenize without mirroring, or leave the file out."
    )


def mirrored_trajectory(values: Mapping[str, Array], change: PictureChange) -> Mapping[str, Array]:
    """A path in a changed picture."""
    if change.mirror_axis is None:
        return values
    return {name: mirror_trajectory(rows, change.mirror_axis) for name, rows in values.items()}
