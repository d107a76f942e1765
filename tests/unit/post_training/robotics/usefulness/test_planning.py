"""Planning: the search finds what is there, and plans are judged by what the simulator does."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError
from post_training.robotics.simulation.scene import WORKSPACE_HIGH_M
from post_training.robotics.usefulness.cem import LOW_M, Budget, actions_of, draw, search
from post_training.robotics.usefulness.environment import Form
from post_training.robotics.usefulness.planning import (
    RANDOM,
    Planning,
    PlanningTrial,
    draw_goal,
    plan_episodes,
    reach,
)
from post_training.robotics.usefulness.ranking import SIMULATOR, WORLD
from post_training.robotics.usefulness.records import Journal

START_M = np.array([0.5, 0.0, 0.2])
SMALL = Budget(candidates=8, iterations=2, elites=2)


class Deaf:
    """A world model that shows a fine picture and ignores what it is told."""

    def __init__(self, table):
        self.form = table.form

    def step(self, moments, actions_NKA, seed=0, every_frame=True):
        return list(moments), np.stack([moment.frame_HWC[None] for moment in moments])


@pytest.mark.parametrize("num_parts", [1, 2])
def test_the_search_finds_the_cheapest_way(num_parts: int) -> None:
    goal_m = START_M + np.array([0.1, -0.08, 0.05])
    budget = Budget(candidates=64, iterations=6, elites=8, num_parts=num_parts)

    def costs(ways_NS3):
        return np.linalg.norm(START_M + ways_NS3.sum(1) - goal_m, axis=-1)

    ways_S3 = search(costs, budget, START_M, goal_m, Form(), np.random.default_rng(0))
    np.testing.assert_allclose(START_M + ways_S3.sum(0), goal_m, atol=0.015)


def test_the_search_passes_by_what_cannot_be_judged() -> None:
    def costs(ways_NS3):
        return np.where(ways_NS3[:, 0, 0] > 0, np.inf, np.abs(ways_NS3[:, 0, 1]))

    ways_S3 = search(costs, Budget(), START_M, START_M + 0.1, Form(), np.random.default_rng(0))
    assert ways_S3[0, 0] <= 0


def test_the_search_is_narrow_near_the_goal() -> None:
    budget = Budget(num_parts=2)
    np.testing.assert_array_equal(budget.spread_m(0.2), np.full((2, 3), 0.1))
    np.testing.assert_array_equal(budget.spread_m(0.0), np.full((2, 3), 0.03))


def test_candidates_stay_where_the_robot_can_go() -> None:
    form, rng = Form(), np.random.default_rng(0)
    ways_NS3 = draw(np.zeros((2, 3)), np.full((2, 3), 1.0), 200, START_M, form, rng)
    places_NS3 = START_M + ways_NS3.cumsum(1)
    assert (places_NS3 >= LOW_M - 1e-9).all()
    assert (places_NS3 <= WORKSPACE_HIGH_M + 1e-9).all()
    assert np.linalg.norm(ways_NS3, axis=-1).max() < 0.21, "as far as half a chunk leads"


@pytest.mark.parametrize("num_parts", [1, 2, 3])
def test_a_chunk_of_actions_covers_the_ways(table, num_parts: int) -> None:
    moment = table.begin(table.scene(0))
    ways_S3 = np.full((num_parts, 3), [0.02, -0.01, 0.01])
    actions_KA = actions_of(ways_S3, 1.0, table.form)
    assert actions_KA.shape == (4, 7)
    (after,), _ = table.step([moment], actions_KA[None], every_frame=False)
    moved_m = table.gripper_m(after) - table.gripper_m(moment)
    np.testing.assert_allclose(moved_m, ways_S3.sum(0), atol=0.004)


def test_plans_made_in_the_simulator_come_nearer_and_random_chunks_do_not(table, eye) -> None:
    trial = PlanningTrial(num_episodes=2, num_plans=1, budget=SMALL)
    shown = []
    planning = plan_episodes(
        table,
        table,
        eye,
        trial,
        Journal(None, None),
        show=lambda planner, episode, frames: shown.append((planner, episode, len(frames))),
    )
    np.testing.assert_array_equal(planning.ends_m[WORLD], planning.ends_m[SIMULATOR])
    assert (planning.ends_m[WORLD] < planning.starts_m - 0.05).all()
    assert planning.ends_m[WORLD].mean() < planning.ends_m[RANDOM].mean()
    assert shown[:3] == [(WORLD, 0, 3), (SIMULATOR, 0, 3), (RANDOM, 0, 3)]
    assert len(planning.rows()) == 2


def test_a_goal_picture_says_where_across_the_line_of_sight(table, eye) -> None:
    trial = PlanningTrial(2, num_plans=1, goal="picture", budget=SMALL)
    scene = table.scene(0)
    goal = draw_goal(table, scene, trial)
    start_m = trial.apart_m(scene.gripper_m, goal.position_m)
    assert 0.15 <= start_m <= 0.35
    end_m, pictures = reach(table, table, eye, trial, scene, goal)
    assert end_m < start_m - 0.02
    np.testing.assert_array_equal(pictures[-1], goal.picture_HWC)
    deaf_m, _ = reach(Deaf(table), table, eye, trial, scene, goal)
    assert end_m < deaf_m


def test_figures_compare_the_planners() -> None:
    ends_m = {
        WORLD: np.array([0.01, 0.04, 0.2, 0.03]),
        SIMULATOR: np.array([0.01, 0.01, 0.02, 0.03]),
        RANDOM: np.array([0.3, 0.02, 0.3, 0.3]),
    }
    figures = Planning(PlanningTrial(4), ends_m, np.full(4, 0.2)).figures()
    assert figures["success_world"].score.value == 0.75
    assert figures["success_simulator"].score.value == 1
    assert figures["success_ratio"].score.value == 0.75
    assert figures["success_gain"].score.value == 0.5
    assert figures["end_world"].score.value == pytest.approx(7)
    hopeless = Planning(PlanningTrial(4), {name: np.ones(4) for name in ends_m}, np.ones(4))
    assert "success_ratio" not in hopeless.figures(), "a share of nothing"


def test_refuses_what_cannot_be_searched() -> None:
    with pytest.raises(ConfigError, match="elites"):
        Budget(candidates=4, elites=5)
    with pytest.raises(ConfigError, match="pose or picture"):
        PlanningTrial(goal="words")
    with pytest.raises(ConfigError, match="leaves no interval"):
        PlanningTrial(num_episodes=1)
    with pytest.raises(ConfigError, match="has no 3 parts"):
        actions_of(np.zeros((3, 3)), 1.0, Form(num_actions=2))
