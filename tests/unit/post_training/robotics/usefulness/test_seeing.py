"""Seeing: as accurate as a ranking needs, against the simulator's truth."""

from __future__ import annotations

import numpy as np
import pytest

from post_training.robotics.simulation.scene import CAMERA, COLORS, Block
from post_training.robotics.usefulness import seeing
from post_training.robotics.usefulness.environment import Form
from post_training.robotics.usefulness.policies import to_actions
from post_training.robotics.usefulness.seeing import Eye, across_m, distance_m
from post_training.robotics.usefulness.simulated import SimulatedTable, pose_above


def test_sees_the_gripper_within_two_centimetres(table: SimulatedTable, eye: Eye) -> None:
    scenes = [table.scene(number) for number in range(12)]
    seen_N3 = eye.gripper_m(np.stack([scene.frame_HWC for scene in scenes]))
    errors_m = distance_m(seen_N3, np.stack([scene.gripper_m for scene in scenes]))
    assert errors_m.mean() < 0.02
    assert errors_m.max() < 0.05


def test_sees_it_move_after_actions(table: SimulatedTable, eye: Eye) -> None:
    moment = table.begin(table.scene(0))
    actions_KA = to_actions(np.full((4, 3), [-0.03, 0.0, 0.01]), 1.0, table.form)
    (after,), frames_NKHWC = table.step([moment], actions_KA[None])
    moved_m = table.gripper_m(after) - table.gripper_m(moment)
    np.testing.assert_allclose(moved_m, [-0.12, 0, 0.04], atol=0.005)
    seen_K3 = eye.gripper_m(frames_NKHWC[0])
    assert distance_m(seen_K3[-1], table.gripper_m(after)) < 0.04
    assert seen_K3[-1, 0] < seen_K3[0, 0]


@pytest.mark.parametrize("color", COLORS)
def test_sees_a_block_of_each_colour_within_a_centimetre(
    table: SimulatedTable, eye: Eye, color: str
) -> None:
    away = pose_above(np.array([0.4, 0.15, 0.33]))
    for x_m, y_m in ((0.4, -0.15), (0.6, 0.1), (0.55, -0.1)):
        frame_HWC = table.picture([Block(color, x_m, y_m)], away, 1.0)
        seen_m = eye.block_m(frame_HWC, color)
        assert seen_m is not None
        np.testing.assert_allclose(seen_m[:2], [x_m, y_m], atol=0.01)
        others = [eye.block_m(frame_HWC, other) for other in COLORS if other != color]
        assert others == [None] * 3


def test_sees_nothing_where_nothing_is(eye: Eye) -> None:
    form = eye.form
    noise_HWC = np.random.default_rng(0).integers(0, 256, (form.height, form.width, 3), np.uint8)
    black_HWC = np.zeros_like(noise_HWC)
    assert np.isnan(eye.gripper_m(np.stack([noise_HWC, black_HWC]))).all()
    assert eye.block_m(black_HWC, "red") is None
    assert distance_m(eye.gripper_m(black_HWC[None]), [0, 0, 0])[0] == np.inf


def test_measures_across_the_line_of_sight(eye: Eye) -> None:
    place_m = np.array([0.5, 0.0, 0.2])
    sight = place_m - np.array(CAMERA.position_m)
    sight /= np.linalg.norm(sight)
    right_m, up_m = 0.03 * CAMERA.axes()[0], np.cross(0.04 * CAMERA.axes()[0], sight)
    behind_m = np.stack([place_m + 0.2 * sight, place_m + right_m, place_m + right_m + up_m])
    np.testing.assert_allclose(across_m(behind_m, place_m), [0, 0.03, 0.05], atol=2e-3)
    assert across_m(np.full((1, 3), np.nan), place_m)[0] == np.inf


def test_remembers_what_it_saw_while_the_simulator_draws_the_same(
    table: SimulatedTable, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(seeing, "cache_dir", lambda: tmp_path)
    frame_HWC = table.scene(1).frame_HWC[None]
    first = Eye.learn(table, 8).gripper_m(frame_HWC)
    (file,) = (tmp_path / "eyes").iterdir()
    drawn = []
    monkeypatch.setattr(table, "picture", _counted(table.picture, drawn))
    np.testing.assert_array_equal(Eye.learn(table, 8).gripper_m(frame_HWC), first)
    assert len(drawn) == 1, "one picture, to see whether the simulator draws the same"
    file.write_bytes(file.read_bytes()[:100])  # damaged
    np.testing.assert_array_equal(Eye.learn(table, 8).gripper_m(frame_HWC), first)
    small = SimulatedTable(Form(num_actions=4, height=48, width=64))
    Eye.learn(small, 8)
    assert len(list((tmp_path / "eyes").iterdir())) == 2


def _counted(picture, drawn):
    def call(*arguments):
        drawn.append(arguments)
        return picture(*arguments)

    return call
