"""A mirrored episode of the simulator: its actions move the arm that its pictures show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls import CAMERA, PictureChange, known_signal
from nemo_cosmos.controls.mirror import mirror_axis_of
from nemo_cosmos.controls.things import THINGS
from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.evaluation.tracking.errors import track_gripper
from nemo_cosmos.evaluation.tracking.locating import project
from nemo_cosmos.platform import has
from post_training.robotics.episodes import Episode
from post_training.robotics.signal import ACTION, STATE
from post_training.robotics.simulation.arm import Pose
from post_training.robotics.simulation.scene import COLORS

pytestmark = pytest.mark.skipif(not has("mujoco"), reason="MuJoCo is not installed")

SIZE = (96, 128)
WHOLE = (0, 0, *SIZE)


@pytest.fixture(scope="module")
def studio():
    from post_training.robotics.simulation import SimulationSettings, Studio

    studio = Studio(SimulationSettings(num_frames=7, fps=4, seed=2))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def episode(studio) -> Episode:
    return studio.record(1)


def mirrored(episode, axis):
    """The pictures and signals of the mirrored episode, by suffix."""
    change = PictureChange(SIZE, WHOLE, axis)
    values = {
        ACTION.suffix: {ACTION.name: episode.actions},
        STATE.suffix: {STATE.name: episode.states},
        **episode.further,
    }
    followed = {
        suffix: known_signal(suffix).follow(each, change) for suffix, each in values.items()
    }
    return change.frames(episode.video.frames_THWC), followed


def pixels_of(signals, points_T3):
    return project(points_T3, 0.1, signals[CAMERA.suffix], SIZE).points_T2


def test_the_axis_is_the_one_along_the_picture(episode):
    assert mirror_axis_of(episode.further[CAMERA.suffix]["poses"]) == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_its_actions_integrate_to_the_mirrored_path(episode, axis):
    _, signals = mirrored(episode, axis)
    states = signals[STATE.suffix][STATE.name]
    signs = np.where(np.arange(3) == axis, -1, 1)
    np.testing.assert_allclose(states[:, :3], episode.states[:, :3] * signs)
    pose = Pose(states[0, :3], Rotation.from_euler("xyz", states[0, 3:6]))
    for action, state in zip(signals[ACTION.suffix][ACTION.name], states[1:], strict=True):
        pose = pose.moved(action[:6] / episode.action_scale[:6])
        np.testing.assert_allclose(pose.position_m, state[:3], atol=1e-5)
        turned = pose.rotation.inv() * Rotation.from_euler("xyz", state[3:6])
        assert turned.magnitude() < 1e-4


@pytest.mark.parametrize("axis", [0, 1])
def test_the_gripper_and_the_blocks_lie_on_those_of_the_mirrored_picture(episode, axis):
    frames, signals = mirrored(episode, axis)
    before = {STATE.suffix: {STATE.name: episode.states}, **episode.further}
    x, y = pixels_of(before, episode.states[:, :3]).T
    found_T2 = pixels_of(signals, signals[STATE.suffix][STATE.name][:, :3])
    np.testing.assert_allclose(found_T2, np.c_[SIZE[1] - x, y], atol=1e-3)
    positions_TN3 = signals[THINGS.suffix]["position_m"]
    for n, block in enumerate(episode.record["blocks"]):
        column, row = np.floor(pixels_of(signals, positions_TN3[:, n])[0]).astype(int)
        colour = np.array(COLORS[block["color"]])
        assert np.corrcoef(frames[0, row, column].astype(float), colour)[0, 1] > 0.9, block


def test_the_mirrored_gripper_is_followed_in_the_mirrored_pictures(studio, episode):
    """What the tracker finds in mirrored pictures is as far away as in the pictures themselves."""
    other = studio.replay(1, studio.record(4).actions)
    frames, signals = mirrored(episode, 0)
    other_frames, other_signals = mirrored(other, 0)
    recorded = {
        "state": signals[STATE.suffix],
        "camera": signals[CAMERA.suffix],
        "things": signals[THINGS.suffix],
    }
    (found,) = track_gripper(Case("a", other_frames, frames, recorded=recorded))
    true_T2, made_T2 = (
        pixels_of(signals, one[STATE.suffix][STATE.name][:, :3]) for one in (signals, other_signals)
    )
    away_T = np.linalg.norm(true_T2 - made_T2, axis=1)
    assert away_T.max() > 5
    assert np.abs(found.error_px_T - away_T).mean() < 1.2


def test_replayed_mirrored_actions_move_the_arm_the_other_way(studio, episode):
    """In the simulator itself, seen from the gripper as it began."""
    _, signals = mirrored(episode, 0)
    made = studio.replay(1, signals[ACTION.suffix][ACTION.name])
    begin = Rotation.from_euler("xyz", episode.states[0, 3:6]).inv()
    went_T3, goes_T3 = (
        begin.apply(one.states[:, :3] - one.states[0, :3]) for one in (episode, made)
    )
    assert np.abs(went_T3[:, 0]).max() > 0.02
    np.testing.assert_allclose(goes_T3, went_T3 * [-1, 1, 1], atol=0.01)
    before, after = (pixels_of(episode.further, one.states[:, :3])[:, 0] for one in (episode, made))
    assert (before[-1] - before[0]) * (after[-1] - after[0]) < 0
