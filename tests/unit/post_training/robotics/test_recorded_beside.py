"""What is recorded beside an episode belongs to its picture, and metrics read it."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.controls import CAMERA
from nemo_cosmos.controls.things import THINGS
from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.evaluation.tracking.errors import track_gripper, track_objects
from nemo_cosmos.evaluation.tracking.locating import project
from post_training.robotics.episodes import read_episode, write_episode
from post_training.robotics.simulation import SimulationSettings, Studio
from post_training.robotics.simulation.scene import COLORS

NUM_FRAMES = 7


@pytest.fixture(scope="module")
def pairs():
    """Episodes, and what each other's actions do in their scenes."""
    studio = Studio(SimulationSettings(num_frames=NUM_FRAMES, fps=4, seed=2))
    episodes = [studio.record(index) for index in (0, 4)]
    yield [
        (episode, studio.replay(index, other.actions))
        for index, episode, other in zip((0, 4), episodes, reversed(episodes), strict=True)
    ]
    studio.close()


def case_of(truth, made) -> Case:
    recorded = {
        "state": {"state": truth.states},
        "camera": truth.further[CAMERA.suffix],
        "things": truth.further[THINGS.suffix],
    }
    return Case("a", made.video.frames_THWC, truth.video.frames_THWC, recorded=recorded)


def seen_px(episode, positions_T3: np.ndarray) -> np.ndarray:
    return project(positions_T3, 0.1, episode.further[CAMERA.suffix], (96, 128)).points_T2


def test_blocks_are_where_the_camera_sees_their_colour(pairs):
    episode, _ = pairs[0]
    positions_TN3 = episode.further[THINGS.suffix]["position_m"]
    for n, block in enumerate(episode.record["blocks"]):
        x, y = np.floor(seen_px(episode, positions_TN3[:, n])[0]).astype(int)
        colour = np.array(COLORS[block["color"]])
        shown = episode.video.frames_THWC[0, y, x].astype(float)
        assert np.corrcoef(shown, colour)[0, 1] > 0.9, block


def test_the_gripper_is_followed_to_a_pixel(pairs):
    """Against the simulator's own state, in episodes whose grippers part by pixels."""
    for truth, made in pairs:
        true_T2, made_T2 = (seen_px(truth, one.states[:, :3]) for one in (truth, made))
        away_T = np.linalg.norm(true_T2 - made_T2, axis=1)
        (found,) = track_gripper(case_of(truth, made))
        assert away_T.max() > 5
        assert np.abs(found.error_px_T - away_T).mean() < 1.2
        (same,) = track_gripper(case_of(truth, truth))
        assert same.error_px_T.max() < 0.3


def test_blocks_are_followed_to_a_pixel(pairs):
    for truth, made in pairs:
        for n, found in enumerate(track_objects(case_of(truth, made))):
            true_T2, made_T2 = (
                seen_px(truth, one.further[THINGS.suffix]["position_m"][:, n])
                for one in (truth, made)
            )
            away_T = np.linalg.norm(true_T2 - made_T2, axis=1)
            assert np.abs(found.error_px_T - away_T).mean() < 1.0


def test_both_are_written_and_read(pairs, tmp_path):
    episode, _ = pairs[0]
    write_episode(tmp_path, episode)
    further = read_episode(tmp_path, episode.key).further
    CAMERA.check(further[CAMERA.suffix], NUM_FRAMES)
    assert set(further) == {CAMERA.suffix, THINGS.suffix}
    for suffix, values in episode.further.items():
        for name, array in values.items():
            assert np.allclose(further[suffix][name], array, atol=1e-5)
