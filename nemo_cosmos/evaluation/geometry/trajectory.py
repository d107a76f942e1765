"""How far one camera path is from another, whatever the first one's origin, axes and scale.

A reconstruction from pictures alone knows neither where it is nor how large. Rotations are
therefore compared relative to the first frame, and positions after the similarity that brings the
two paths closest (Procrustes; Umeyama, 1991). Position errors are divided by the true path's
largest distance from its start, so that a path counts as one long.

Shape suffixes: T frames, 3 for (x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError

Matrix = NDArray[np.float64]

STILL_M = 1e-4
"""A true camera that stays within this does not travel; its path has no length to divide by."""


@dataclass(frozen=True)
class Similarity:
    """A motion with a scale: ``x -> scale * rotation @ x + shift``."""

    scale: float
    rotation_33: Matrix
    shift_3: Matrix

    def move(self, points_T3: Matrix) -> Matrix:
        """Points after the motion."""
        return np.asarray(self.scale * points_T3 @ self.rotation_33.T + self.shift_3)


def rotation_errors_deg(estimated_T33: Matrix, true_T33: Matrix) -> Matrix:
    """Angle between the two rotations since the first frame, ``(T,)`` in degrees.

    Args:
        estimated_T33: camera-to-world rotations of one path, in any world axes.
        true_T33: those of the other.
    """
    relative = [one_T33[0].T @ one_T33 for one_T33 in (estimated_T33, true_T33)]
    return angles_deg(relative[0].transpose(0, 2, 1) @ relative[1])


def angles_deg(rotations_T33: Matrix) -> Matrix:
    """Angle of each rotation in degrees."""
    # The angle by its sine and its cosine: arccos alone is inexact near zero.
    cosine_T = (np.trace(rotations_T33, axis1=1, axis2=2) - 1) / 2
    skew_T33 = rotations_T33 - rotations_T33.transpose(0, 2, 1)
    sine_T = np.linalg.norm(skew_T33, axis=(1, 2)) / np.sqrt(8)
    return np.asarray(np.degrees(np.arctan2(sine_T, cosine_T)))


def similarity(estimated_T3: Matrix, true_T3: Matrix, *, with_scale: bool = True) -> Similarity:
    """The motion that lays one path onto another with the least squared distance.

    Args:
        estimated_T3: positions in any unit and axes.
        true_T3: the positions of the other path.
        with_scale: whether it may be scaled; a single camera does not show its scale.
    """
    middle_3, true_middle_3 = estimated_T3.mean(axis=0), true_T3.mean(axis=0)
    centred_T3, true_centred_T3 = estimated_T3 - middle_3, true_T3 - true_middle_3
    left_33, sizes_3, right_33 = np.linalg.svd(true_centred_T3.T @ centred_T3)
    signs_3 = np.array([1.0, 1.0, np.sign(np.linalg.det(left_33 @ right_33)) or 1.0])
    rotation_33 = left_33 * signs_3 @ right_33
    scale, spread = 1.0, float((centred_T3**2).sum())
    if with_scale:
        scale = float((sizes_3 * signs_3).sum()) / spread if spread > 0 else 0.0
    return Similarity(scale, rotation_33, true_middle_3 - scale * rotation_33 @ middle_3)


def align(estimated_T3: Matrix, true_T3: Matrix) -> Matrix:
    """Positions of one path after the similarity that brings them closest to the other.

    Args:
        estimated_T3: positions in any unit and axes.
        true_T3: the positions of the other path.
    """
    return similarity(estimated_T3, true_T3).move(estimated_T3)


def translation_errors(estimated_T3: Matrix, true_T3: Matrix) -> Matrix:
    """Distance of each aligned position from the true one, ``(T,)``, in lengths of the true path.

    A path of the right form in a wrong direction has none; :func:`path_errors` sees that.

    Args:
        estimated_T3: positions in any unit and axes.
        true_T3: true positions in metres.

    Raises:
        VideoError: the true camera does not travel.
    """
    length_m = _length_m(true_T3)
    return np.asarray(np.linalg.norm(align(estimated_T3, true_T3) - true_T3, axis=1) / length_m)


def path_errors(estimated_T44: Matrix, true_T44: Matrix) -> Matrix:
    """Distance of each position from the true one as seen from the first camera, ``(T,)``.

    The first camera's place and axes are taken from both paths, so that only the scale is fitted,
    and left is not right. In lengths of the true path.

    Args:
        estimated_T44: camera-to-world matrices of one path, in any unit.
        true_T44: those of the true one, in metres.

    Raises:
        VideoError: the true camera does not travel.
    """
    length_m = _length_m(true_T44[:, :3, 3])
    moved_T3, true_T3 = (
        (one_T44[:, :3, 3] - one_T44[0, :3, 3]) @ one_T44[0, :3, :3]
        for one_T44 in (estimated_T44, true_T44)
    )
    spread = float((moved_T3**2).sum())
    scale = max(0.0, float((moved_T3 * true_T3).sum())) / spread if spread > 0 else 0.0
    return np.asarray(np.linalg.norm(scale * moved_T3 - true_T3, axis=1) / length_m)


def _length_m(true_T3: Matrix) -> float:
    """Largest distance of a path from its start."""
    length_m = float(np.linalg.norm(true_T3 - true_T3[0], axis=1).max())
    if length_m < STILL_M:
        raise VideoError(
            "The given camera does not travel, so that its path has no length that an error could "
            "be a share of. Leave the metric out for videos of a camera that stands or only turns."
        )
    return length_m
