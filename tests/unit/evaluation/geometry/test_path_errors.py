"""Errors of paths equal scipy's alignment and cases that are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.errors import SampleError
from nemo_cosmos.evaluation.geometry.path_errors import (
    absolute_error,
    distances,
    following_error_cm,
    relative_errors,
    scaled,
)
from nemo_cosmos.evaluation.geometry.trajectory import angles_deg, similarity

RNG = np.random.default_rng(0)
PATH = np.cumsum(RNG.normal(0, 1, (20, 3)), axis=0)
TURN = Rotation.from_euler("xyz", [0.3, -1.1, 2.0])


def poses(positions_T3: np.ndarray, rotations: Rotation) -> np.ndarray:
    found = np.tile(np.eye(4), (len(positions_T3), 1, 1))
    found[:, :3, :3], found[:, :3, 3] = rotations.as_matrix(), positions_T3
    return found


def test_a_moved_and_scaled_path_has_no_error():
    moved = np.add(2.5 * TURN.apply(PATH), (3, -1, 7))
    assert absolute_error(moved, PATH) == pytest.approx(0, abs=1e-9)
    assert similarity(moved, PATH).scale == pytest.approx(1 / 2.5)
    assert absolute_error(moved, PATH, with_scale=False) > 0.5
    assert absolute_error(PATH * [1, 1, -1], PATH) > 0.1  # a mirror image is another path


def test_the_alignment_is_scipys():
    noisy = TURN.apply(PATH) + RNG.normal(0, 0.3, PATH.shape)
    centred, true_centred = noisy - noisy.mean(axis=0), PATH - PATH.mean(axis=0)
    best, rssd = Rotation.align_vectors(true_centred, centred)
    motion = similarity(noisy, PATH, with_scale=False)
    assert np.abs(motion.rotation_33 - best.as_matrix()).max() < 1e-9
    error = absolute_error(noisy, PATH, with_scale=False)
    assert error == pytest.approx(rssd / np.sqrt(len(PATH)))
    # With a scale, no neighbouring scale does better.
    errors = [absolute_error(noisy * factor, PATH, with_scale=False) for factor in (0.98, 1.02)]
    assert absolute_error(noisy, PATH) <= min(*errors, error) + 1e-12


def test_following_in_centimetres():
    """Two points a metre apart, of which the estimate has 0.8: 10 cm off at each end."""
    truth, estimate = np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[0.0, 0, 0], [0, 0.8, 0]])
    assert following_error_cm(estimate, truth, with_scale=False) == pytest.approx(10)
    assert following_error_cm(estimate, truth) == pytest.approx(0, abs=1e-9)
    assert distances(np.zeros((2, 3)), truth) == pytest.approx([0.5, 0.5])  # stood still


def test_relative_errors_of_a_wheel_that_slips_and_a_turn_too_much():
    num = 10
    straight = poses(np.arange(num)[:, None] * [1.0, 0, 0], Rotation.identity(num))
    slipped = poses(np.arange(num)[:, None] * [0.9, 0, 0], Rotation.identity(num))
    assert relative_errors(slipped, straight) == pytest.approx((0.1, 0))
    assert relative_errors(slipped, straight, 5) == pytest.approx((0.5, 0))
    assert relative_errors(scaled(slipped, 1 / 0.9), straight)[0] == pytest.approx(0, abs=1e-12)
    turns = Rotation.from_rotvec(np.radians(2) * np.arange(num)[:, None] * [0, 0, 1.0])
    turned = poses(straight[:, :3, 3], turns)
    assert relative_errors(turned, straight)[1] == pytest.approx(2)
    once = np.tile(np.eye(4), (num, 1, 1))
    once[:, :3, :3] = TURN.as_matrix()
    # Both seen from elsewhere: the errors are the same.
    assert relative_errors(once @ turned, straight)[1] == pytest.approx(2)


def test_small_angles_keep_their_digits():
    for degrees in (1e-7, 1e-3, 90, 179.9999, 180):
        matrix = Rotation.from_rotvec(np.radians(degrees) * np.array([[0.6, 0, 0.8]])).as_matrix()
        assert angles_deg(matrix)[0] == pytest.approx(degrees, rel=1e-6)


def test_paths_that_do_not_fit_are_refused():
    with pytest.raises(SampleError, match=r"shapes \(20, 3\) and \(19, 3\)"):
        absolute_error(PATH, PATH[1:])
    with pytest.raises(SampleError, match="no motion over 5 frames"):
        relative_errors(np.tile(np.eye(4), (5, 1, 1)), np.tile(np.eye(4), (5, 1, 1)), 5)
