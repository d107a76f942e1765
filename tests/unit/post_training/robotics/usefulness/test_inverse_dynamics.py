"""The network that reads actions off neighbouring frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nemo_cosmos.errors import SampleError, WrongSizeError
from nemo_cosmos.perception.flow import forward_flow
from post_training.robotics.usefulness.inverse_dynamics import (
    GRID_HW,
    NUM_CHANNELS,
    Steps,
    Training,
    see,
    train_inverse_dynamics,
)

QUICK = Training(num_updates=150, num_hidden=32)


def film(actions_N2: np.ndarray, seed: int = 0) -> np.ndarray:
    """A textured patch that is moved by (x, y) pixels at each step."""
    generator = np.random.default_rng(seed)
    patch = generator.integers(0, 255, (24, 24, 3), np.uint8)
    places = np.cumsum(np.vstack([[36, 20], actions_N2]), axis=0).round().astype(int)
    frames = np.full((len(places), 64, 96, 3), 40, np.uint8)
    for frame, (x, y) in zip(frames, places, strict=True):
        frame[y : y + 24, x : x + 24] = patch
    return frames


def episode(seed: int) -> Steps:
    actions_N2 = np.random.default_rng(seed).integers(-2, 3, (6, 2))
    return Steps(see(film(actions_N2, seed)), actions_N2.astype(np.float32))


def test_flow_goes_from_each_frame_to_the_next():
    flow_NHW2 = forward_flow(film(np.array([[2, 0], [0, -2]])))
    assert flow_NHW2.shape == (2, 64, 96, 2)
    np.testing.assert_allclose(flow_NHW2[0, 26:38, 44:52].mean((0, 1)), [2, 0], atol=0.2)
    np.testing.assert_allclose(flow_NHW2[1, 26:38, 46:52].mean((0, 1)), [0, -2], atol=0.2)


def test_what_is_seen_of_a_step_does_not_depend_on_the_size_of_the_video():
    frames = film(np.array([[2, 1], [-1, 2]]))
    seen = see(frames)
    assert seen.shape == (2, NUM_CHANNELS, *GRID_HW) and seen.dtype == np.float32
    larger = see(frames.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_allclose(larger[:, :2].mean((2, 3)), seen[:, :2].mean((2, 3)), atol=0.15)
    with pytest.raises(WrongSizeError, match="12x12"):
        see(frames[:, :12, :12])


def test_it_learns_to_read_the_motion_of_episodes_that_it_never_saw():
    network = train_inverse_dynamics([episode(n) for n in range(24)], training=QUICK)
    unseen = [episode(n) for n in range(100, 108)]
    errors = [np.abs(network.actions(one.seen_NCHW) - one.actions_NA).mean() for one in unseen]
    mean = np.abs(np.concatenate([one.actions_NA for one in unseen])).mean()
    assert np.mean(errors) < 0.5 * mean  # of always saying that nothing moves


def test_the_same_seed_gives_the_same_network_and_leaves_the_random_state_alone():
    episodes = [episode(n) for n in range(3)]
    state = torch.random.get_rng_state()
    few = Training(num_updates=5, num_hidden=8)
    networks = [train_inverse_dynamics(episodes, training=few, seed=s) for s in (1, 1, 2)]
    first, again, other = (network.actions(episodes[0].seen_NCHW) for network in networks)
    assert (first == again).all() and (first != other).any()
    assert (torch.random.get_rng_state() == state).all()


def test_the_second_course_sets_scale_and_has_the_last_word():
    """Generated episodes whose labels are wrong are unlearned with real ones."""
    wrong = [Steps(one.seen_NCHW, -one.actions_NA + 9) for one in map(episode, range(24))]
    real = [episode(n) for n in range(24)]
    network = train_inverse_dynamics(wrong, real, QUICK)
    actions_NA = np.concatenate([one.actions_NA for one in real])
    np.testing.assert_allclose(network.action_mean, actions_NA.mean(0), atol=1e-6)
    made_NA = np.concatenate([network.actions(one.seen_NCHW) for one in real])
    assert np.corrcoef(made_NA.ravel(), actions_NA.ravel())[0, 1] > 0.8


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(SampleError, match="no step"):
        train_inverse_dynamics([])
    other = Steps(episode(0).seen_NCHW, np.zeros((6, 7), np.float32))
    with pytest.raises(SampleError, match="2 and 7 numbers"):
        train_inverse_dynamics([episode(0), other])
