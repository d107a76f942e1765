"""Plan in a world model, act in the simulator: does a plan hold that was made in imagination?

Model-predictive control: from what the camera sees, a search (:mod:`.cem`) finds a chunk of actions
whose imagined end is nearest to the goal; the simulator carries it out, and the next plan begins at
what the camera sees then. The goal is a picture of the arm somewhere else, or the place itself.
The same search in the simulator, with as many rollouts, says how good a plan can be, and a chunk
drawn at random how good none is. Success is the simulator's truth, not what is seen. A goal picture
hardly shows how far from the camera the gripper should be, so that its distances are across the
line of sight.

Shape suffixes: N candidates, S parts of a chunk, E episodes, K actions, H height, W width, C
colours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.statistics import mean_score, paired_difference, statistic_score
from nemo_cosmos.progress import Progress
from post_training.robotics.simulation.scene import WORKSPACE_HIGH_M
from post_training.robotics.usefulness.cem import LOW_M, Budget, Costs, actions_of, draw, search
from post_training.robotics.usefulness.environment import Environment, Moment, Scene
from post_training.robotics.usefulness.ranking import SIMULATOR, WORLD, visible_scenes
from post_training.robotics.usefulness.records import Figure, Journal
from post_training.robotics.usefulness.seeing import Eye, across_m, distance_m
from post_training.robotics.usefulness.simulated import SimulatedTable, pose_above

GOAL_KINDS = ("pose", "picture")

RANDOM = "random"
PLANNERS = (WORLD, SIMULATOR, RANDOM)

_NEAREST_M, _FARTHEST_M = 0.15, 0.35


@dataclass(frozen=True)
class PlanningTrial:
    """What is tried.

    Attributes:
        num_episodes: scenes, each with a goal of its own.
        seed: seed of the scenes, the goals and the searches.
        num_plans: chunks that are planned and carried out in an episode.
        goal: what a planner is given: the gripper's place, or a picture of the arm there.
        success_m: an episode that ends within this distance of its goal has succeeded.
        budget: what each search may try.
    """

    num_episodes: int = 16
    seed: int = 2000
    num_plans: int = 2
    goal: str = "pose"
    success_m: float = 0.05
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if self.goal not in GOAL_KINDS:
            raise ConfigError(f"The goal is '{self.goal}'; expected {' or '.join(GOAL_KINDS)}.")
        if self.num_episodes < 2:
            raise ConfigError(
                f"{self.num_episodes} episode leaves no interval; expected at least 2, and 16 or "
                "more for a narrow one."
            )

    def apart_m(self, first_N3: np.ndarray, place_3: np.ndarray) -> np.ndarray:
        """Return distances from a goal as far as it says where it is: a picture lacks depth."""
        measure = distance_m if self.goal == "pose" else across_m
        return measure(first_N3, place_3)

    def describe(self) -> dict[str, Any]:
        """Return plain data for the record."""
        return {
            "num_episodes": self.num_episodes,
            "seed": self.seed,
            "num_plans": self.num_plans,
            "goal": self.goal,
            "success_m": self.success_m,
            "budget": self.budget.describe(),
        }


@dataclass(frozen=True)
class Goal:
    """Where an episode should end.

    Attributes:
        position_m: place of the gripper.
        picture_HWC: the arm there.
    """

    position_m: np.ndarray
    picture_HWC: np.ndarray


@dataclass(frozen=True)
class Planning:
    """How plans held.

    Attributes:
        trial: what was tried.
        ends_m: true distance from the goal after each episode ``(E,)`` by planner, as
            :meth:`PlanningTrial.apart_m` measures it.
        starts_m: distance before it.
    """

    trial: PlanningTrial
    ends_m: Mapping[str, NDArray[np.float64]]
    starts_m: NDArray[np.float64]

    def figures(self) -> dict[str, Figure]:
        """Return the numbers of the trial by name."""
        success = {name: (e <= self.trial.success_m) * 1.0 for name, e in self.ends_m.items()}
        across = "" if self.trial.goal == "pose" else " across the line of sight"
        within = f"share of episodes that end within {100 * self.trial.success_m:g} cm{across}"
        words = {
            WORLD: "planned in the world model",
            SIMULATOR: "planned in the simulator with the same budget",
            RANDOM: "a chunk drawn at random instead of a plan",
        }

        def ratio(rows_E: NDArray[np.intp]) -> float:
            true = success[SIMULATOR][rows_E].mean()
            return float(success[WORLD][rows_E].mean() / true) if true else float("nan")

        found = {
            f"success_{name}": Figure(mean_score(success[name]), f"{within}; {words[name]}")
            for name in PLANNERS
        }
        if success[SIMULATOR].any():
            found["success_ratio"] = Figure(
                statistic_score(ratio, len(self.starts_m)),
                "success of the world model's plans as a share of the simulator's own",
            )
        found["success_gain"] = Figure(
            paired_difference(success[WORLD], success[RANDOM]),
            "success of the world model's plans less that of random chunks",
        )
        for name in PLANNERS:
            found[f"end_{name}"] = Figure(
                mean_score(100 * self.ends_m[name]),
                f"distance from the goal{across}; {words[name]}",
                "cm",
            )
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Return a line of numbers for each episode."""
        return [
            {
                "episode": number,
                "start_cm": float(100 * start_m),
                **{f"{name}_cm": float(100 * self.ends_m[name][number]) for name in PLANNERS},
            }
            for number, start_m in enumerate(self.starts_m)
        ]


Show = Callable[[str, int, Sequence[np.ndarray]], None]
"""Takes planner, episode, and pictures: before each chunk, the last, and the goal."""


def plan_episodes(
    world: Environment,
    table: SimulatedTable,
    eye: Eye,
    trial: PlanningTrial,
    journal: Journal,
    *,
    show: Show | None = None,
    progress: Progress | None = None,
) -> Planning:
    """Let every planner reach the goal of every scene.

    Args:
        world: the world model.
        table: the simulator, which carries out all plans.
        eye: judges the pictures of a search.
        trial: what is tried.
        journal: keeps what is finished.
        show: called with each episode's pictures.
        progress: called with the episodes done and the episodes in all.
    """
    scenes = visible_scenes(table, eye, trial.num_episodes)
    goals = [draw_goal(table, scene, trial) for scene in scenes]
    models: dict[str, Environment | None] = {WORLD: world, SIMULATOR: table, RANDOM: None}
    ends: dict[str, list[float]] = {name: [] for name in models}
    done, total = 0, len(models) * len(scenes)
    for number, (scene, goal) in enumerate(zip(scenes, goals, strict=True)):
        for name, model in models.items():

            def run(
                name: str = name,
                model: Environment | None = model,
                scene: Scene = scene,
                goal: Goal = goal,
                number: int = number,
            ) -> float:
                end_m, shown = reach(model, table, eye, trial, scene, goal)
                if show is not None:
                    show(name, number, shown)
                return end_m

            about = [scene.number, *trial.describe().items()]
            ends[name].append(journal.part(f"{name}-{number}", about, run))
            done += 1
            if progress is not None:
                progress(done, total)
    starts_m = [
        float(trial.apart_m(scene.gripper_m, goal.position_m))
        for scene, goal in zip(scenes, goals, strict=True)
    ]
    found = {name: np.array(values) for name, values in ends.items()}
    return Planning(trial, found, np.array(starts_m))


def reach(
    model: Environment | None,
    table: SimulatedTable,
    eye: Eye,
    trial: PlanningTrial,
    scene: Scene,
    goal: Goal,
) -> tuple[float, list[np.ndarray]]:
    """Reach one goal.

    Args:
        model: where plans are made; None to draw chunks at random.
        table: the simulator, which carries them out.
        eye: judges the pictures of a search.
        trial: what is tried.
        scene: where the episode begins.
        goal: where it should end.

    Returns:
        the true distance from the goal in metres, and the pictures.
    """
    rng = np.random.default_rng([trial.seed, scene.number, 1])
    moment = table.begin(scene)
    shown = [moment.frame_HWC]
    goal_m = goal.position_m
    if trial.goal == "picture":
        goal_m = eye.gripper_m(goal.picture_HWC[None])[0]
    seen_m = eye.gripper_m(scene.frame_HWC[None])[0]
    for _ in range(trial.num_plans):
        if model is None:
            spread_S3 = trial.budget.spread_m(float(np.linalg.norm(goal_m - seen_m)))
            ways_S3 = draw(np.zeros_like(spread_S3), spread_S3, 1, seen_m, table.form, rng)[0]
        else:
            # A world model knows of the simulator what the camera shows, and nothing else.
            seen = moment if model is table else Moment(moment.frame_HWC)
            costs = _costs_of(model, eye, trial, seen, scene.opening, goal_m)
            ways_S3 = search(costs, trial.budget, seen_m, goal_m, table.form, rng)
        actions_KA = actions_of(ways_S3, scene.opening, table.form)
        (moment,), _ = table.step([moment], actions_KA[None], every_frame=False)
        shown.append(moment.frame_HWC)
        now_m = eye.gripper_m(moment.frame_HWC[None])[0]
        seen_m = np.where(np.isfinite(now_m), now_m, seen_m)
    end_m = float(trial.apart_m(table.gripper_m(moment), goal.position_m))
    return end_m, [*shown, goal.picture_HWC]


def draw_goal(table: SimulatedTable, scene: Scene, trial: PlanningTrial) -> Goal:
    """Draw a place that one chunk can just about reach, and a picture of the arm there."""
    rng = np.random.default_rng([trial.seed, scene.number, 2])
    position_m = rng.uniform(LOW_M, WORKSPACE_HIGH_M)
    while not _NEAREST_M <= trial.apart_m(scene.gripper_m, position_m) <= _FARTHEST_M:
        position_m = rng.uniform(LOW_M, WORKSPACE_HIGH_M)
    picture_HWC = table.picture(scene.blocks, pose_above(position_m), scene.opening)
    return Goal(position_m, picture_HWC)


def _costs_of(
    model: Environment,
    eye: Eye,
    trial: PlanningTrial,
    moment: Moment,
    opening: float,
    goal_m: NDArray[np.float64],
) -> Costs:
    """The cost of candidates: how far from the goal their last picture shows the gripper."""

    def costs(ways_NS3: NDArray[np.float64]) -> NDArray[np.float64]:
        actions_NKA = np.stack([actions_of(w, opening, model.form) for w in ways_NS3])
        # One seed for all: candidates differ by their actions, not by their noise.
        _, frames_NKHWC = model.step(
            [moment] * len(ways_NS3), actions_NKA, trial.seed, every_frame=False
        )
        return trial.apart_m(eye.gripper_m(frames_NKHWC[:, -1]), goal_m)

    return costs
