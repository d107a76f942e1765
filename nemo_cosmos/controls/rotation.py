"""Rotations in the forms that actions have; see :data:`~nemo_cosmos.controls.embodiment`."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from nemo_cosmos.aliases import Array


def as_rotation(rows_NA: Array, form: str) -> Rotation:
    """Read rotations of one form; those that are none are brought to the nearest.

    Args:
        rows_NA: a rotation in each row, in radians where it is angles.
        form: one of ``ROTATION_WIDTHS``.
    """
    if form == "euler_xyz":
        return Rotation.from_euler("xyz", rows_NA)
    if form == "axis_angle":
        return Rotation.from_rotvec(rows_NA)
    if form == "quaternion_xyzw":
        return Rotation.from_quat(rows_NA)
    if form == "matrix":
        return Rotation.from_matrix(rows_NA.reshape(-1, 3, 3))
    first, second = rows_NA[:, :3], rows_NA[:, 3:]
    first = first / np.linalg.norm(first, axis=1, keepdims=True).clip(1e-9)
    second = second - (first * second).sum(1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=1, keepdims=True).clip(1e-9)
    return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=2))


def from_rotation(rotation: Rotation, form: str) -> Array:
    """Write rotations in one form; the inverse of :func:`as_rotation`."""
    if form == "euler_xyz":
        return np.asarray(rotation.as_euler("xyz"))
    if form == "axis_angle":
        return np.asarray(rotation.as_rotvec())
    if form == "quaternion_xyzw":
        return np.asarray(rotation.as_quat())
    matrices_N33 = rotation.as_matrix()
    if form == "matrix":
        return np.asarray(matrices_N33.reshape(-1, 9))
    return np.asarray(matrices_N33[:, :, :2].swapaxes(1, 2).reshape(-1, 6))
