"""How far matched points lie from an epipolar geometry: one that is fitted, or one that is given.

Between two pictures of a still scene, matched points x and x' satisfy ``x'^T F x = 0`` for a
fundamental matrix F. The Sampson error is the first-order distance to that:
``e = (x'^T F x)^2 / ((Fx)_1^2 + (Fx)_2^2 + (F^T x')_1^2 + (F^T x')_2^2)`` (Hartley and Zisserman,
2003, equation 11.9); its root is in pixels. Pixels are those of a picture with the diagonal of
960 x 540; a fisheye's points are first moved to a pinhole camera of that size and 120 degrees.

Shape suffixes: N points, 2 for (x, y); 33 and 44 matrices.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values
from nemo_cosmos.controls.camera import pixel_rays
from nemo_cosmos.evaluation.geometry.points import DIAGONAL_PX, Points

Matrix = NDArray[np.float64]

MIN_MATCHES = 16
"""With fewer an F fits almost anything."""
RANSAC_PX = 1.0
_RANSAC_SEED = 0
SAME_PLACE_M = 1e-6
"""Cameras that are nearer than this see no parallax, and F is zero."""
_PINHOLE_FOV_RAD = np.radians(120)
_WIDEST_COSINE = float(np.cos(np.radians(85)))
"""A ray that is farther off the axis lies nowhere in a pinhole's picture."""


def sampson_errors(first_N2: Points, second_N2: Points, matrix_33: Matrix) -> Matrix:
    """Root of the Sampson error of each match, ``(N,)``, in the points' unit.

    Args:
        first_N2: points x in the first picture.
        second_N2: the matched points x' in the second.
        matrix_33: the fundamental matrix F with ``x'^T F x = 0``.
    """
    first, second = (np.c_[points, np.ones(len(points))] for points in (first_N2, second_N2))
    lines, back = first @ matrix_33.T, second @ matrix_33
    algebraic = (second * lines).sum(axis=1)
    slope = (lines[:, :2] ** 2).sum(axis=1) + (back[:, :2] ** 2).sum(axis=1)
    return np.asarray(np.abs(algebraic) / np.sqrt(np.maximum(slope, 1e-300)))


def fit_fundamental(first_N2: Points, second_N2: Points) -> tuple[Matrix, int] | None:
    """The fundamental matrix of most matches, by RANSAC and eight points, and how many fit it.

    Args:
        first_N2: points in the first picture.
        second_N2: the matched points in the second.

    Returns:
        None where there are fewer than :data:`MIN_MATCHES`, or nothing fits.
    """
    if len(first_N2) < MIN_MATCHES:
        return None
    cv2.setRNGSeed(_RANSAC_SEED)  # the same video gives the same number
    matrix_33, is_inlier = cv2.findFundamentalMat(
        first_N2, second_N2, cv2.FM_RANSAC, RANSAC_PX, 0.999
    )
    if matrix_33 is None or matrix_33.shape != (3, 3):
        return None
    return np.asarray(matrix_33, np.float64), int(is_inlier.sum())


def scale_of(size: tuple[int, int]) -> float:
    """Factor from pixels of a picture of this height and width to those of the errors."""
    return DIAGONAL_PX / float(np.hypot(*size))


class Lens:
    """A camera at one frame, as a pinhole in the pixels that errors are given in.

    Args:
        values: the arrays of its ``camera.npz``, with ``size`` that of the frames.
        frame: the frame.
    """

    def __init__(self, values: Values, frame: int) -> None:
        self._values, self._frame = values, frame
        self.pose_44 = np.asarray(values["poses"][frame], np.float64)
        self._is_fisheye = "angle_polynomial" in values
        if self._is_fisheye:
            focal_px = 480 / np.tan(_PINHOLE_FOV_RAD / 2)
            self.matrix_33 = np.array([[focal_px, 0, 480], [0, focal_px, 270], [0, 0, 1]])
        else:
            height, width = (int(side) for side in values["size"])
            self.matrix_33 = np.array(values["intrinsics"][frame], np.float64)
            self.matrix_33[:2] *= scale_of((height, width))

    def move(self, points_N2: Points) -> tuple[Points, NDArray[np.bool_]]:
        """Points of the picture in the pinhole's, and which of them it can show.

        Args:
            points_N2: pixels of the frame.
        """
        rays_N3 = pixel_rays(self._values, self._frame, points_N2)
        is_shown_N = rays_N3[:, 2] > _WIDEST_COSINE
        depth_N1 = np.where(is_shown_N, rays_N3[:, 2], 1)[:, None]
        return np.asarray((rays_N3 / depth_N1 @ self.matrix_33.T)[:, :2]), is_shown_N


def given_errors(first: Lens, second: Lens, first_N2: Points, second_N2: Points) -> Matrix:
    """Root of the Sampson error of each match under two known cameras, ``(N,)`` in pixels.

    Cameras at one place have no epipolar lines: a point is then expected where the rotation moves
    it, and the error is its distance from there, shared by both pictures.

    Args:
        first: the camera of the first picture.
        second: the camera of the second.
        first_N2: points of the first picture, moved to its pinhole.
        second_N2: the matched points of the second, moved likewise.
    """
    turn_33 = second.pose_44[:3, :3].T @ first.pose_44[:3, :3]
    move_3 = second.pose_44[:3, :3].T @ (first.pose_44[:3, 3] - second.pose_44[:3, 3])
    inverse_33 = np.linalg.inv(first.matrix_33)
    if np.linalg.norm(move_3) < SAME_PLACE_M:
        expected_N3 = (
            np.c_[first_N2, np.ones(len(first_N2))] @ (second.matrix_33 @ turn_33 @ inverse_33).T
        )
        expected_N2 = expected_N3[:, :2] / expected_N3[:, 2:]
        return np.asarray(np.linalg.norm(second_N2 - expected_N2, axis=1) / np.sqrt(2))
    # The length of the move is no part of the geometry; without it F is of one scale.
    x, y, z = move_3 / np.linalg.norm(move_3)
    cross_33 = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix_33 = np.linalg.inv(second.matrix_33).T @ cross_33 @ turn_33 @ inverse_33
    return sampson_errors(first_N2, second_N2, matrix_33)
