"""The simulator against closed formulas: the truth that world models are measured by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import has
from post_training.physics.scenarios import GRAVITY_M_S2, SCENARIOS, draw_setup
from post_training.physics.things import mirrored
from post_training.physics.world import simulate_motion
from post_training.rendering import prepare_environment

pytestmark = pytest.mark.skipif(not has("mujoco"), reason="MuJoCo is not installed (extra 'sim')")

FPS = 20.0


def _motion(name, seed=0, push=0, num_frames=13, **changes):
    prepare_environment("software")
    setup = replace(draw_setup(name, (seed,), push), **changes)
    return setup, simulate_motion(setup, num_frames, FPS)[1]


def test_things_fall_as_galilei_says():
    _, motion = _motion("falling", num_frames=8)
    time_s = np.arange(8) / FPS
    start_m = motion.position_TN3[0, :, 2]
    expected = start_m - 0.5 * GRAVITY_M_S2 * time_s[:, None] ** 2
    np.testing.assert_allclose(motion.position_TN3[:, :, 2], expected, atol=2e-3)
    assert not motion.touches_TN.any()


def test_a_block_slides_as_coulomb_says():
    setup, motion = _motion("sliding", num_frames=7)
    slope, friction = setup.ramp.angle_rad, setup.friction
    expected = GRAVITY_M_S2 * (np.sin(slope) - friction * np.cos(slope))
    speed = np.linalg.norm(motion.velocity_TN3[:, 0], axis=1)
    assert speed[6] / (6 / FPS) == pytest.approx(expected, rel=0.05)
    assert motion.touches_TN[1:, 0].all()


@pytest.mark.parametrize(("seed", "share"), [(0, None), (1, None), (2, None)])
def test_a_wheel_rolls_and_does_not_slip(seed, share):
    setup, motion = _motion("rolling", seed=seed, num_frames=9)
    thing = setup.things[0]
    inertia = {"ball": 2 / 5, "disc": 1 / 2}[thing.shape]
    expected = GRAVITY_M_S2 * np.sin(setup.ramp.angle_rad) / (1 + inertia)
    speed = np.linalg.norm(motion.velocity_TN3[8, 0])
    assert speed / (8 / FPS) == pytest.approx(expected, rel=0.05)
    spin = 2 * motion.energy_TN3[8, 0, 1] / motion.energy_TN3[8, 0, 0]
    assert spin == pytest.approx(2 * inertia, rel=0.02)


@pytest.mark.parametrize("push", [0, 1])
def test_a_collision_keeps_momentum_and_nearly_all_energy(push):
    setup, motion = _motion("collision", push=push, num_frames=20, bounce=0.999)
    mass = np.array([thing.mass_kg for thing in setup.things])
    momentum = motion.velocity_TN3[:, :, 0] @ mass
    np.testing.assert_allclose(momentum, momentum[0], rtol=1e-3)
    energy = motion.energy_TN3[:, :, 0].sum(1)
    assert energy[-1] == pytest.approx(energy[0], rel=0.02)
    assert abs(motion.velocity_TN3[-1, 1, 0]) > 0.5


@pytest.mark.parametrize("push", [0, 1])
def test_a_pendulum_keeps_its_energy(push):
    _, motion = _motion("pendulum", push=push, num_frames=33)
    energy = motion.energy_TN3.sum((1, 2))
    swing = np.ptp(motion.energy_TN3[:, 0, 2])
    assert np.abs(energy - energy[0]).max() < 0.01 * swing
    assert np.ptp(motion.position_TN3[:, 0, 0]) > 0.6


def test_a_bounce_keeps_the_share_of_speed_that_it_was_given():
    _, motion = _motion("bouncing", num_frames=33, bounce=0.85)
    height = motion.position_TN3[:, 0, 2]
    radius = height.min() - 0.02
    turn = int(height[:12].argmin())
    rebound = height[turn : turn + 12].max() - radius
    assert rebound / (height[0] - radius) == pytest.approx(0.85**2, rel=0.12)
    flying = motion.energy_TN3[turn + 1 : turn + 6, 0].sum(1)
    np.testing.assert_allclose(flying, flying[0], rtol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_hard_push_topples_and_a_nudge_does_not(seed):
    for push in (0, 1):
        _, motion = _motion("toppling", seed=seed, push=push, num_frames=30)
        topples = abs(motion.rotation_TN[-1, 0]) > 1.2
        assert topples == bool(push)


def test_a_paddle_pushes_and_friction_stops():
    for push in (0, 1):
        setup, motion = _motion("pushing", push=push, num_frames=33)
        way = abs(motion.position_TN3[-1, 0, 0] - motion.position_TN3[0, 0, 0])
        assert way > 0.4
        fastest = np.abs(motion.velocity_TN3[:, 0, 0]).max()
        assert fastest == pytest.approx(setup.pusher.speed_m_s, rel=0.25)
    assert np.linalg.norm(motion.velocity_TN3[-1, 0]) < 0.05


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scene_starts_the_same_whatever_the_push(name):
    one, other = draw_setup(name, (3,), 0), draw_setup(name, (3,), 1)
    still = [
        [replace(t, speed_m_s=(0, 0), spin_rad_s=0) for t in setup.things] for setup in (one, other)
    ]
    assert still[0] == still[1]
    assert (one != other) == SCENARIOS[name].is_pushed
    assert mirrored(mirrored(one)) == one
    assert draw_setup(name, (4,), 0) != one


def test_the_mirror_image_moves_the_other_way():
    for name in ("rolling", "pushing", "toppling", "pendulum"):
        setup, motion = _motion(name, push=1, num_frames=6)
        other = simulate_motion(mirrored(setup), 6, FPS)[1]
        np.testing.assert_allclose(
            other.position_TN3[..., 0], -motion.position_TN3[..., 0], atol=1e-3
        )
        words = {setup.words(), mirrored(setup).words()}
        assert len(words) == 2 or "left" not in " ".join(words)


def test_an_unknown_scenario_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no scenario 'rollin'.*rolling"):
        draw_setup("rollin", (0,), 0)
