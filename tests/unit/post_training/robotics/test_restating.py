"""The same motion in other numbers, and refusals where it would not be the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nemo_cosmos.controls import find_embodiment
from nemo_cosmos.errors import ConfigError
from post_training.robotics.restating import restate, restate_own
from post_training.robotics.simulation.arm import action_scale

BRIDGE, ARM = find_embodiment("bridge_7"), find_embodiment("arm_10")


def rows() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (6, 7)).astype(np.float32)


def test_actions_in_other_numbers_are_the_same_when_they_come_back() -> None:
    given = rows()
    other = restate(given, BRIDGE, ARM)
    assert other.shape == (6, 10)
    np.testing.assert_allclose(other[:, :3], given[:, :3] / 20, rtol=1e-6)  # metres
    assert ARM.find_row_fault(other) is None
    np.testing.assert_allclose(restate(other, ARM, BRIDGE), given, atol=1e-5)


def test_units_scale_and_sign_are_minded() -> None:
    groups = list(BRIDGE.numbers)
    groups[0] = replace(groups[0], units="mm", scale=1.0)
    groups[1] = replace(groups[1], units="deg", scale=1.0)
    groups[2] = replace(groups[2], high="closed")
    given = rows()
    other = restate(given, BRIDGE, replace(BRIDGE, name="mine", numbers=tuple(groups)))
    np.testing.assert_allclose(other[:, :3], given[:, :3] * 50, rtol=1e-5)
    np.testing.assert_allclose(other[:, 3:6], np.degrees(given[:, 3:6] / 20), rtol=1e-4)
    np.testing.assert_allclose(other[:, 6], 1 - given[:, 6], rtol=1e-5)


def test_own_episodes_follow_their_rate() -> None:
    given, scale = rows(), action_scale(20.0)  # an action of 1 is full speed at any rate
    assert restate_own(given, scale, BRIDGE) is given
    np.testing.assert_allclose(restate_own(given, scale, ARM)[:, :3], given[:, :3] / 40, rtol=1e-6)


@pytest.mark.parametrize("wanted", ["two_arms_20", "camera_9"])
def test_another_motion_is_no_other_form(wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be written as '{wanted}': that takes"):
        restate(rows(), BRIDGE, find_embodiment(wanted))
