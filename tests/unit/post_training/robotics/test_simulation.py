from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.errors import (
    AssetError,
    ConfigError,
    MissingDependencyError,
    NumericsError,
    SampleError,
    WrongFrameCountError,
    WrongSizeError,
)
from nemo_cosmos.platform import has
from post_training.rendering import choose_renderer, prepare_environment
from post_training.robotics.episodes import EPISODES, read_episode
from post_training.robotics.simulation import (
    SimulationSettings,
    Studio,
    episode_key,
    simulate,
)
from post_training.robotics.simulation.robot import prepare_robot
from post_training.robotics.simulation.scene import COLORS
from post_training.robotics.simulation.tasks import TASK_CYCLE

TINY = SimulationSettings(num_frames=8, height=48, width=64, seed=3)


@pytest.fixture(scope="session")
def _robot() -> None:
    if not has("mujoco"):
        pytest.skip("MuJoCo is not installed (extra 'sim')")
    prepare_environment("software")
    try:
        prepare_robot()
    except AssetError as error:
        pytest.skip(f"the robot's files cannot be fetched: {error}")


@pytest.fixture(scope="module")
def studio(_robot: None) -> Iterator[Studio]:
    studio = Studio(TINY, "software")
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def full_studio(_robot: None) -> Studio:
    return Studio(SimulationSettings(height=32, width=32), "software")


def test_the_robot_is_light_and_whole(_robot: None) -> None:
    from post_training.robotics.simulation import robot

    meshes = robot._weld_package_meshes()
    bodies = {mesh.body for mesh in meshes}
    assert {f"link{index}" for index in range(8)} | set(robot._FINGER_BODIES) <= bodies
    assert 4_000 < sum(len(mesh.faces_F3) for mesh in meshes) < 15_000
    for mesh in meshes:
        assert np.isfinite(mesh.vertices_V3).all()
        assert mesh.faces_F3.max() < len(mesh.vertices_V3)


def test_episode_has_what_its_layout_promises(studio: Studio) -> None:
    episode = studio.record(1)
    assert episode.key == "episode_000001"
    assert episode.video.frames_THWC.shape == (8, 48, 64, 3)
    assert episode.video.fps == 10
    assert episode.actions.shape == (7, 7)
    assert episode.states.shape == (8, 7)
    assert episode.record["task"] == "reach"
    assert any(color in episode.caption for color in COLORS)
    assert episode.record["instruction"].startswith("reach the ")
    assert [studio.record(9).split, studio.record(8).split] == ["val", "train"]


def test_episodes_repeat_exactly_and_differ_from_each_other(studio: Studio) -> None:
    first, other = studio.record(0), studio.record(7)
    again = studio.record(0)
    np.testing.assert_array_equal(first.actions, again.actions)
    np.testing.assert_array_equal(first.states, again.states)
    np.testing.assert_array_equal(first.video.frames_THWC, again.video.frames_THWC)
    assert np.abs(first.states - other.states).max() > 0.01


def test_actions_are_the_motion_between_states_in_bridges_convention(studio: Studio) -> None:
    from scipy.spatial.transform import Rotation

    episode = studio.record(2)
    rotations = Rotation.from_euler("xyz", episode.states[:, 3:6])
    moved = rotations[:-1].inv().apply(np.diff(episode.states[:, :3], axis=0))
    turned = (rotations[:-1].inv() * rotations[1:]).as_euler("xyz")
    expected = np.concatenate([moved, turned], axis=1) * 20
    np.testing.assert_allclose(episode.actions[:, :6], expected, atol=2e-4)


@pytest.mark.parametrize("index", range(len(TASK_CYCLE)))
def test_every_task_comes_out_with_actions_in_range(full_studio: Studio, index: int) -> None:
    episode = full_studio.record(index)
    assert episode.record["task"] == TASK_CYCLE[index]
    assert episode.record["success"]
    assert np.abs(episode.actions).max() <= 1.05
    assert np.abs(episode.actions[:, :3]).max() > 0.2
    # Smooth: no frame-to-frame jump of the speed beyond half of full speed.
    assert np.abs(np.diff(episode.actions[:, :6], axis=0)).max() < 0.5


def test_replaying_the_actions_gives_the_same_video(full_studio: Studio) -> None:
    episode = full_studio.record(5)  # a lift, with contacts
    again = full_studio.replay(5, episode.actions)
    assert np.abs(again.states[:, :3] - episode.states[:, :3]).max() < 2e-3
    difference = np.abs(again.video.frames_THWC.astype(int) - episode.video.frames_THWC)
    assert difference.mean() < 1.0


@pytest.mark.parametrize(("axis", "world_sign"), [(0, 1), (1, -1), (2, -1)])
def test_other_actions_move_the_gripper_as_told(studio: Studio, axis: int, world_sign: int) -> None:
    actions = np.zeros((4, 7), np.float32)
    actions[:, axis] = -0.4 if axis == 2 else 0.4
    told_m = actions[:, axis].sum() / 20 * world_sign
    episode = studio.replay(1, actions)
    moved_m = episode.states[-1, :3] - episode.states[0, :3]
    assert moved_m[axis] == pytest.approx(told_m, abs=2e-3)
    assert np.abs(np.delete(moved_m, axis)).max() < 2e-3


def test_still_actions_hold_still_and_the_gripper_obeys(studio: Studio) -> None:
    actions = np.zeros((5, 7), np.float32)
    actions[:3, 6] = 1
    episode = studio.replay(0, actions)
    assert np.abs(np.diff(episode.states[:, :3], axis=0)).max() < 1e-3
    np.testing.assert_allclose(episode.states[[3, 5], 6], [1, 0], atol=0.1)


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        (np.zeros((3, 6)), SampleError, r"expected \(3, 7\)"),
        (np.zeros(7), SampleError, r"expected \(7, 7\)"),
        (np.full((2, 7), np.nan), NumericsError, "NaN"),
    ],
)
def test_wrong_actions_are_refused(
    studio: Studio, actions: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        studio.replay(0, actions)


def test_a_person_sees_robot_table_and_blocks(_robot: None) -> None:
    episode = Studio(SimulationSettings(num_frames=2), "software").record(3)
    frame_HWC = episode.video.frames_THWC[0].astype(int)
    red, green, blue = np.moveaxis(frame_HWC, -1, 0)
    white = (frame_HWC.min(-1) > 150) & (frame_HWC.max(-1) - frame_HWC.min(-1) < 20)
    brown = (red > green + 15) & (green > blue + 10) & (red < 220)
    saturated = (frame_HWC.max(-1) - frame_HWC.min(-1) > 90) & ~brown
    assert white.mean() > 0.05
    assert brown.mean() > 0.2
    assert saturated.sum() > 30


def test_simulate_fills_a_folder_and_goes_on(_robot: None, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = tmp_path / "robot episodes"
    report = simulate(
        folder,
        3,
        TINY,
        workers=0,
        renderer="software",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (report.num_episodes, report.num_new, report.renderer) == (3, 3, "software")
    assert seen == [(1, 3), (2, 3), (3, 3)]
    manifest = EPISODES.read_manifest(folder)
    assert manifest is not None
    assert [entry["key"] for entry in manifest["episodes"]] == [episode_key(i) for i in range(3)]
    assert not list(folder.glob(".tmp*"))

    before = (folder / "episode_000001.action.npy").read_bytes()
    (folder / "episode_000001.action.npy").unlink()
    untouched = (folder / "episode_000002.mp4").stat().st_mtime_ns
    report = simulate(folder, 4, TINY, workers=0, renderer="software")
    assert report.num_new == 2
    assert (folder / "episode_000001.action.npy").read_bytes() == before
    assert (folder / "episode_000002.mp4").stat().st_mtime_ns == untouched

    simulate(folder, 1, TINY, workers=0, renderer="software")
    manifest = EPISODES.read_manifest(folder)
    assert manifest is not None
    assert len(manifest["episodes"]) == 4  # those of the earlier runs are not forgotten

    other = SimulationSettings(num_frames=9, height=48, width=64, seed=3)
    with pytest.raises(ConfigError, match="other settings"):
        simulate(folder, 4, other, workers=0, renderer="software")


def test_workers_make_the_same_episodes(studio: Studio, tmp_path: Path) -> None:
    simulate(tmp_path, 2, TINY, workers=2, renderer="software")
    for index in range(2):
        episode, expected = read_episode(tmp_path, episode_key(index)), studio.record(index)
        np.testing.assert_array_equal(episode.actions, expected.actions)
        difference = np.abs(episode.video.frames_THWC.astype(int) - expected.video.frames_THWC)
        assert difference.mean() < 4  # the codec's


@pytest.mark.parametrize("name", ["egl", "osmesa"])
def test_opengl_shows_the_same_scene(studio: Studio, tmp_path: Path, name: str) -> None:
    try:
        choose_renderer(name)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    simulate(tmp_path, 1, TINY, workers=1, renderer=name)
    frames = read_episode(tmp_path, episode_key(0)).video.frames_THWC
    assert json.loads((tmp_path / "episode_000000.json").read_text())["renderer"] == name
    expected = studio.record(0).video.frames_THWC
    assert np.abs(frames.astype(int) - expected).mean() < 10


def test_opengl_in_a_process_that_imported_mujoco_without_it_is_refused(studio: Studio) -> None:
    with pytest.raises(ConfigError, match="MUJOCO_GL=osmesa"):
        Studio(TINY, "osmesa")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"num_frames": 1}, WrongFrameCountError, "at least 2"),
        ({"fps": 0}, ConfigError, "1 to 60"),
        ({"height": 95}, WrongSizeError, "The height is 95.*even"),
        ({"width": 4096}, WrongSizeError, "The width is 4096"),
        ({"seed": -1}, ConfigError, "seed is -1"),
    ],
)
def test_impossible_settings_are_refused(
    changed: dict[str, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SimulationSettings(**changed)  # type: ignore[arg-type]


def test_impossible_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 episodes by 1 workers"):
        simulate(tmp_path, 0, TINY)
