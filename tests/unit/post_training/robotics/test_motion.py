from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from post_training.robotics.simulation.arm import DOWN, Pose
from post_training.robotics.simulation.motion import (
    MAX_SLOWDOWN,
    PEAK_SPEED_M_S,
    Waypoint,
    duration_s,
    path,
)
from post_training.robotics.simulation.robot import weld
from post_training.robotics.simulation.tasks import TASK_CYCLE, make_task

HERE, THERE = np.array([0.4, 0.0, 0.2]), np.array([0.6, 0.1, 0.1])


def test_pose_motion_is_the_inverse_of_moved() -> None:
    rng = np.random.default_rng(0)
    start = Pose(HERE, Rotation.random(random_state=1))
    delta = rng.uniform(-0.05, 0.05, 6)
    np.testing.assert_allclose(start.motion_to(start.moved(delta)), delta, atol=1e-12)
    state = Pose(HERE, DOWN).as_state(0.5)
    np.testing.assert_allclose(state, [*HERE, np.pi, 0, 0, 0.5], atol=1e-12)


def test_path_begins_and_ends_at_rest_within_its_speed_limit() -> None:
    waypoints = [Waypoint(HERE), Waypoint(THERE, opening=0.0)]
    length_s = duration_s(*waypoints)
    frames = path(waypoints, num_frames=201, fps=100)
    positions = np.array([pose.position_m for pose, _ in frames])
    np.testing.assert_allclose(positions[0], HERE)
    np.testing.assert_allclose(positions[-1], THERE)
    assert [frames[0][1], frames[-1][1]] == [1.0, 0.0]
    speed = np.linalg.norm(np.diff(positions, axis=0), axis=1) * 100
    slowdown = min(MAX_SLOWDOWN, 0.9 * 2 / length_s)
    assert speed.max() == pytest.approx(PEAK_SPEED_M_S / slowdown, rel=0.01)
    assert speed[0] < 0.01
    assert speed[-1] < 0.01


def test_path_is_cut_where_the_video_ends_and_waits_where_told() -> None:
    far = [Waypoint(HERE), Waypoint(THERE, wait_s=10.0), Waypoint(HERE)]
    positions = np.array([pose.position_m for pose, _ in path(far, 30, 10)])
    np.testing.assert_allclose(positions[-1], THERE)
    short = path([Waypoint(HERE), Waypoint(THERE)], 2, 10)
    assert not np.allclose(short[-1][0].position_m, THERE)


@pytest.mark.parametrize("kind", sorted(set(TASK_CYCLE)))
def test_tasks_stay_where_the_camera_and_the_arm_reach(kind: str) -> None:
    for seed in range(50):
        task = make_task(kind, np.random.default_rng(seed))
        assert 2 <= len(task.blocks) <= 3 or kind == "push"
        assert len({block.color for block in task.blocks}) == len(task.blocks)
        spots = np.array([[block.x_m, block.y_m] for block in task.blocks])
        gaps = np.linalg.norm(spots[:, None] - spots, axis=-1)[np.triu_indices(len(spots), 1)]
        assert (gaps > 0.1).all()
        for waypoint in task.waypoints:
            assert (waypoint.position_m > [0.22, -0.32, 0.03]).all()
            assert (waypoint.position_m < [0.78, 0.32, 0.36]).all()


def test_weld_simplifies_a_fine_box_without_changing_its_shape() -> None:
    grid = np.linspace(0, 1, 21)
    triangles = []
    for u0, u1 in pairwise(grid):
        for v0, v1 in pairwise(grid):
            a, b, c, d = (u0, v0, 0), (u1, v0, 0), (u1, v1, 0), (u0, v1, 0)
            triangles += [(a, b, c), (a, c, d)]
    triangles += triangles[:5]  # repeated ones must go
    fine = np.array(triangles, dtype=float)
    vertices_V3, faces_F3 = weld(fine, 0.25)
    assert len(faces_F3) < len(fine) / 10
    assert len(np.unique(faces_F3, axis=0)) == len(faces_F3)
    corners = vertices_V3[faces_F3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] > 0).all()  # every face still looks the way it did
    np.testing.assert_allclose(vertices_V3.min(0), 0, atol=0.13)
    np.testing.assert_allclose(vertices_V3.max(0), [1, 1, 0], atol=0.13)
