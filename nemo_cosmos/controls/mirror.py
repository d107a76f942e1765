"""Motions in a mirrored world, and motions of several steps made one.

The world is mirrored at the plane where one of its axes is 0. Positions change the sign of that
axis. Rotations turn about mirrored axes the other way round: of roll, pitch and yaw the one about
the mirrored axis stays, and the other two change their signs. A gripper of two fingers is its own
mirror image, so that its axes are mirrored as the world's are, and the same signs hold for motions
seen from the gripper.

Shape suffixes: T rows, S steps that are joined, A numbers of a motion: position (3), roll, pitch
and yaw (3), opening (1). 44: a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.errors import SampleError

LATERAL_AXIS = 1
"""A robot's y leads to its left: the axis to mirror where no camera says another."""
MOTION_WIDTH = 7
_ROLL = 3


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


def mirror_motions(rows_TA: Array, axis: int) -> Array:
    """Mirror motions of a gripper of two fingers, or its poses, by their signs.

    Args:
        rows_TA: position, roll, pitch and yaw, opening; of a pose, or of its change seen from the
            gripper or from the robot's base.
        axis: the axis that changes its sign.

    Raises:
        SampleError: a row has another number of numbers, whose meaning is unknown.
    """
    _check_width(rows_TA, "mirrored")
    signs_A = np.array([1.0, 1, 1, -1, -1, -1, 1])
    signs_A[axis], signs_A[3 + axis] = -1, 1
    return np.asarray(rows_TA * signs_A).astype(rows_TA.dtype)


def mirror_states(rows_TA: Array, axis: int) -> Array:
    """Mirror a gripper's poses; the roll stays on the side of the circle where it was.

    A gripper that points down has a roll near pi, which recordings keep free of jumps: its mirror
    image is on the other side of pi, not near -pi.
    """
    mirrored_TA = mirror_motions(rows_TA, axis)
    if axis != 0 and len(rows_TA):
        turns = np.round(np.median(rows_TA[:, _ROLL]) / np.pi)
        mirrored_TA[:, _ROLL] += np.asarray(2 * np.pi * turns, mirrored_TA.dtype)
    return mirrored_TA


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


def mirrored_motions(values: Mapping[str, Array], change: PictureChange) -> Mapping[str, Array]:
    """Actions in a changed picture: mirrored with it; a crop leaves them alone."""
    if change.mirror_axis is None:
        return values
    return {name: mirror_motions(rows, change.mirror_axis) for name, rows in values.items()}


def mirrored_states(values: Mapping[str, Array], change: PictureChange) -> Mapping[str, Array]:
    """States of a robot in a changed picture."""
    if change.mirror_axis is None:
        return values
    return {name: mirror_states(rows, change.mirror_axis) for name, rows in values.items()}


def mirrored_trajectory(values: Mapping[str, Array], change: PictureChange) -> Mapping[str, Array]:
    """A path in a changed picture."""
    if change.mirror_axis is None:
        return values
    return {name: mirror_trajectory(rows, change.mirror_axis) for name, rows in values.items()}


def join_motions(rows_TSA: Array, record: Mapping[str, Any]) -> Array:
    """Make one motion of S motions in a row, each seen from the gripper before it.

    A recording's JSON gives the factors that its actions were multiplied by (``action.scale``).
    With them the motions are composed exactly. Without, the angles are unknown, and the numbers
    are added, which is exact while the gripper does not turn. The opening is the last one's.

    Args:
        rows_TSA: groups of motions.
        record: the sample's JSON.

    Raises:
        SampleError: a row has another number of numbers, whose meaning is unknown.
    """
    from scipy.spatial.transform import Rotation

    _check_width(rows_TSA, "joined")
    scale_A = _scale_of(record)
    if scale_A is None:
        joined_TA = rows_TSA.sum(axis=1)
        joined_TA[:, -1] = rows_TSA[:, -1, -1]
        return joined_TA.astype(rows_TSA.dtype)
    motions_TSA = rows_TSA.astype(np.float64) / scale_A
    position_T3 = np.zeros((len(rows_TSA), 3))
    rotation_T = Rotation.identity(len(rows_TSA))
    for motion_TA in motions_TSA.swapaxes(0, 1):
        position_T3 = position_T3 + rotation_T.apply(motion_TA[:, :3])
        rotation_T = rotation_T * Rotation.from_euler("xyz", motion_TA[:, 3:6])
    opening_T1 = motions_TSA[:, -1, 6:]
    joined_TA = np.concatenate([position_T3, rotation_T.as_euler("xyz"), opening_T1], axis=1)
    return (joined_TA * scale_A).astype(rows_TSA.dtype)


def _scale_of(record: Mapping[str, Any]) -> Array | None:
    """The factors of a recording's actions; None where its JSON gives none."""
    described = record.get("action")
    scale = described.get("scale") if isinstance(described, Mapping) else None
    if not isinstance(scale, list | tuple) or len(scale) != MOTION_WIDTH:
        return None
    scale_A = np.asarray(scale, np.float64)
    return scale_A if (scale_A > 0).all() else None


def _check_width(rows: Array, done: str) -> None:
    if rows.ndim < 2 or rows.shape[-1] != MOTION_WIDTH:
        raise SampleError(
            f"has shape {rows.shape}, and only motions of {MOTION_WIDTH} numbers (position, roll, "
            f"pitch, yaw, opening) can be {done}. Tokenize without that, or leave the file out."
        )
