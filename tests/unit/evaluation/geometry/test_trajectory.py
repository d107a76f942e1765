"""Errors of camera paths: known angles and distances, whatever the origin, axes and scale."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.geometry.trajectory import (
    align,
    path_errors,
    rotation_errors_deg,
    translation_errors,
)

GENERATOR = np.random.default_rng(0)
PATH_T3 = np.cumsum(GENERATOR.normal(0, 1, (12, 3)), axis=0)
TURNS_T33 = Rotation.from_rotvec(GENERATOR.normal(0, 1, (12, 3))).as_matrix()
WORLD = Rotation.from_rotvec([0.4, -2.0, 1.1]).as_matrix()


def about(axis, degrees):
    return Rotation.from_rotvec(np.radians(degrees) * np.asarray(axis)).as_matrix()


def test_a_known_angle_comes_out():
    angles = np.array([0, 1e-5, 0.5, 30, 90, 179, 180])
    true_T33 = np.stack([about([0, 0, 1], 5.0 * frame) for frame in range(len(angles))])
    off_T33 = np.stack(
        [true @ about([0.6, 0, 0.8], angle) for true, angle in zip(true_T33, angles, strict=True)]
    )
    np.testing.assert_allclose(rotation_errors_deg(off_T33, true_T33), angles, atol=1e-6)
    assert rotation_errors_deg(true_T33, true_T33).max() < 1e-12


def test_the_axes_of_the_world_do_not_count():
    off_T33 = TURNS_T33 @ np.stack([about([0, 1, 0], 3.0 * frame) for frame in range(12)])
    errors = rotation_errors_deg(off_T33, TURNS_T33)
    np.testing.assert_allclose(rotation_errors_deg(WORLD @ off_T33, TURNS_T33), errors, atol=1e-9)
    expected = [
        np.degrees(Rotation.from_matrix((a0.T @ a).T @ (b0.T @ b)).magnitude())
        for a0, a, b0, b in zip(
            [off_T33[0]] * 12, off_T33, [TURNS_T33[0]] * 12, TURNS_T33, strict=True
        )
    ]
    np.testing.assert_allclose(errors, expected, atol=1e-9)


def test_a_similar_path_has_no_error_and_a_mirrored_one_has():
    similar_T3 = 7.3 * PATH_T3 @ WORLD.T + [10, -20, 30]
    np.testing.assert_allclose(align(similar_T3, PATH_T3), PATH_T3, atol=1e-9)
    assert translation_errors(similar_T3, PATH_T3).max() < 1e-9
    assert translation_errors(similar_T3 * [1, 1, -1], PATH_T3).mean() > 0.05


def test_the_error_is_that_of_scipys_procrustes():
    noisy_T3 = PATH_T3 + GENERATOR.normal(0, 0.1, PATH_T3.shape)
    errors = translation_errors(3 * noisy_T3 @ WORLD.T - 4, PATH_T3)
    length = np.linalg.norm(PATH_T3 - PATH_T3[0], axis=1).max()
    # SciPy scales both paths to norm 1 and gives the sum of squares that is left.
    _, _, disparity = procrustes(PATH_T3, noisy_T3)
    spread = ((PATH_T3 - PATH_T3.mean(axis=0)) ** 2).sum()
    assert (errors**2).sum() * length**2 == pytest.approx(disparity * spread, rel=1e-9)


def test_the_unit_is_the_length_of_the_path():
    line_T3 = np.c_[np.arange(5.0), np.zeros(5), np.zeros(5)]
    off_T3 = line_T3.copy()
    off_T3[:, 1] = [0, 0.4, 0, -0.4, 0]
    np.testing.assert_allclose(
        translation_errors(100 * off_T3, 100 * line_T3), translation_errors(off_T3, line_T3)
    )
    # A camera that stands still is nowhere nearer than the middle of the path.
    still = translation_errors(np.zeros((5, 3)), line_T3)
    np.testing.assert_allclose(still, [0.5, 0.25, 0, 0.25, 0.5])
    with pytest.raises(VideoError, match="does not travel"):
        translation_errors(line_T3, np.ones((5, 3)))


def test_a_path_in_the_wrong_direction_is_far_from_the_first_cameras_view():
    poses_T44 = np.tile(np.eye(4), (4, 1, 1))
    poses_T44[:, 0, 3] = np.arange(4)  # to the right
    poses_T44[:, 2, 3] = [0, 0.3, 0.3, 0]
    left_T44 = poses_T44.copy()
    left_T44[:, 0, 3] *= -1
    positions = left_T44[:, :3, 3], poses_T44[:, :3, 3]
    assert translation_errors(*positions).max() < 1e-9, "Procrustes turns it round"
    assert path_errors(left_T44, poses_T44)[-1] > 0.99
    world_44 = np.eye(4)
    world_44[:3, :3], world_44[:3, 3] = WORLD, [3, 1, -2]
    same_T44 = world_44 @ poses_T44
    same_T44[:, :3, 3] *= 4.2
    assert path_errors(same_T44, poses_T44).max() < 1e-9
    # Twice as far sideways at the end: the best scale s of (1, 1, 4) for (1, 2, 3) is 15 / 18.
    far_T44 = poses_T44.copy()
    far_T44[:, :3, 3] = [[0, 0, 0], [1, 0, 0], [1, 0, 0], [4, 0, 0]]
    line_T44 = poses_T44.copy()
    line_T44[:, 2, 3] = 0
    scale = 15 / 18
    expected = np.abs(scale * np.array([0, 1, 1, 4]) - np.arange(4)) / 3
    np.testing.assert_allclose(path_errors(far_T44, line_T44), expected)
    with pytest.raises(VideoError, match="does not travel"):
        path_errors(poses_T44, np.tile(np.eye(4), (4, 1, 1)))
