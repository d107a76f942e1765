"""Rank policies in a world model, and see whether the simulator ranks them alike.

Every policy starts from the same held-out scenes in the simulator and in the world model, and acts
in a closed loop: it sees the table, is carried out for a chunk, and sees it again, be that in
simulated or in imagined pictures. Success is judged from the last picture, by the same eye in both.
A world model that can stand in for a robot gives the same order of success rates.

Shape suffixes: P policies, N scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.evaluation.statistics import mean_score, statistic_score
from nemo_cosmos.progress import Progress
from post_training.robotics.usefulness.environment import Environment, Moment, Scene
from post_training.robotics.usefulness.policies import POLICIES, Policy, Sight, goal_above
from post_training.robotics.usefulness.records import Figure, Journal
from post_training.robotics.usefulness.seeing import Eye, distance_m
from post_training.robotics.usefulness.simulated import SimulatedTable

GRADES_M = (0.03, 0.05, 0.08, 0.12)
"""Distances from the goal. An episode's success is the share of them that it ends within."""

MIN_POLICIES = 8
MIN_EPISODES = 2

SIMULATOR, WORLD = "simulator", "world"


@dataclass(frozen=True)
class RankingTrial:
    """What is tried.

    Attributes:
        num_episodes: scenes that every policy starts from.
        seed: seed of the scenes and of the policies' errors.
        num_chunks: chunks of actions in an episode.
        policies: the policies.
    """

    num_episodes: int = 16
    seed: int = 1000
    num_chunks: int = 2
    policies: Sequence[Policy] = POLICIES

    def __post_init__(self) -> None:
        names = [policy.name for policy in self.policies]
        if len(set(names)) < max(MIN_POLICIES, len(names)):
            raise ConfigError(
                f"The policies are {', '.join(names) or 'none'}; expected at least {MIN_POLICIES} "
                "of different names: fewer are in the right order too often by chance."
            )
        if self.num_episodes < MIN_EPISODES:
            raise ConfigError(
                f"{self.num_episodes} episode leaves no interval; expected at least "
                f"{MIN_EPISODES}, and 16 or more for a narrow one."
            )

    def describe(self) -> dict[str, Any]:
        """Return plain data for the record."""
        return {
            "num_episodes": self.num_episodes,
            "seed": self.seed,
            "num_chunks": self.num_chunks,
            "policies": [policy.describe() for policy in self.policies],
        }


@dataclass(frozen=True)
class Ranking:
    """How policies did.

    Attributes:
        trial: what was tried.
        ends_m: where each environment was seen to end: distance from the goal ``(P, N)``, infinite
            where no gripper was seen.
    """

    trial: RankingTrial
    ends_m: Mapping[str, NDArray[np.float64]]

    def success_PN(self, environment: str) -> NDArray[np.float64]:
        """Success of each episode, 0 to 1."""
        return success(self.ends_m[environment])

    def figures(self) -> dict[str, Figure]:
        """Return the numbers of the trial by name."""
        ours_PN, true_PN = self.success_PN(WORLD), self.success_PN(SIMULATOR)
        num = self.trial.num_episodes

        def correlation(rows_N: NDArray[np.intp]) -> float:
            return rank_correlation(ours_PN[:, rows_N].mean(1), true_PN[:, rows_N].mean(1))

        def error(rows_N: NDArray[np.intp]) -> float:
            rates = ours_PN[:, rows_N].mean(1) - true_PN[:, rows_N].mean(1)
            return float(np.abs(rates).mean())

        return {
            "rank_correlation": Figure(
                statistic_score(correlation, num),
                "Spearman's correlation of the success rates in the world and in the simulator",
            ),
            "success_error": Figure(
                statistic_score(error, num), "mean absolute error of the success rates"
            ),
            "success_bias": Figure(
                mean_score((ours_PN - true_PN).mean(0)),
                "success rate in the world less that in the simulator, mean over the policies",
            ),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return a line of numbers for each policy, best first."""
        rows = [
            {
                "policy": policy.name,
                **{
                    environment: float(self.success_PN(environment)[number].mean())
                    for environment in (SIMULATOR, WORLD)
                },
                **{
                    f"{environment}_cm": _median_cm(self.ends_m[environment][number])
                    for environment in (SIMULATOR, WORLD)
                },
                "what it does": policy.description,
            }
            for number, policy in enumerate(self.trial.policies)
        ]
        return sorted(rows, key=lambda row: -row[SIMULATOR])


def rank_policies(
    environments: Mapping[str, Environment],
    table: SimulatedTable,
    eye: Eye,
    trial: RankingTrial,
    journal: Journal,
    *,
    show: Callable[[str, str, Sequence[np.ndarray]], None] | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Run every policy in every environment.

    Args:
        environments: the environments by name: :data:`SIMULATOR` and :data:`WORLD`.
        table: the simulator, which makes the scenes.
        eye: judges the pictures.
        trial: what is tried.
        journal: keeps what is finished.
        show: called with environment, policy and the first scene's pictures, one before each chunk
            and the last.
        progress: called with the episodes done and the episodes in all.

    Raises:
        SampleError: a block cannot be seen in the first picture of any scene.
    """
    scenes = visible_scenes(table, eye, trial.num_episodes)
    total = len(environments) * len(trial.policies) * len(scenes)
    done = 0
    ends: dict[str, list[list[float | None]]] = {name: [] for name in environments}
    for name, environment in environments.items():
        for number, policy in enumerate(trial.policies):

            def run(
                name: str = name,
                environment: Environment = environment,
                number: int = number,
                policy: Policy = policy,
            ) -> list[float | None]:
                rngs = [np.random.default_rng([trial.seed, number, s.number]) for s in scenes]
                ends_N, shown = run_policy(
                    environment, eye, policy, scenes, rngs, trial.num_chunks, trial.seed
                )
                if show is not None:
                    show(name, policy.name, shown)
                return [float(end) if np.isfinite(end) else None for end in ends_N]

            about = [policy, trial.num_episodes, trial.num_chunks, trial.seed]
            ends[name].append(journal.part(f"{name}-{policy.name}", about, run))
            done += len(scenes)
            if progress is not None:
                progress(done, total)
    found = {
        name: np.array([[np.inf if e is None else e for e in row] for row in rows], np.float64)
        for name, rows in ends.items()
    }
    return Ranking(trial, found)


def run_policy(
    environment: Environment,
    eye: Eye,
    policy: Policy,
    scenes: Sequence[Scene],
    rngs: Sequence[np.random.Generator],
    num_chunks: int,
    seed: int,
) -> tuple[NDArray[np.float64], list[np.ndarray]]:
    """Run one policy from several scenes at once.

    Args:
        environment: where it acts.
        eye: what it sees with, and what judges it.
        policy: the policy.
        scenes: where it begins.
        rngs: source of its errors in each scene.
        num_chunks: chunks of actions.
        seed: seed of the environment's chance.

    Returns:
        how far from the goal each episode ends, in metres, infinite where the gripper is not seen;
        and the pictures of the first scene.
    """
    moments: list[Moment] = [environment.begin(scene) for scene in scenes]
    blocks_m = [seen_blocks(eye, scene) for scene in scenes]
    grippers_m = eye.gripper_m(np.stack([moment.frame_HWC for moment in moments]))
    shown = [moments[0].frame_HWC]
    for _ in range(num_chunks):
        sights = [
            Sight(gripper_m, blocks, scene.opening)
            for gripper_m, blocks, scene in zip(grippers_m, blocks_m, scenes, strict=True)
        ]
        actions_NKA = np.stack(
            [
                policy.act(sight, environment.form, rng)
                for sight, rng in zip(sights, rngs, strict=True)
            ]
        )
        moments, _ = environment.step(moments, actions_NKA, seed, every_frame=False)
        shown.append(moments[0].frame_HWC)
        seen_m = eye.gripper_m(np.stack([moment.frame_HWC for moment in moments]))
        # A policy that sees no gripper acts on where it saw one last; the judge does not.
        grippers_m = np.where(np.isfinite(seen_m), seen_m, grippers_m)
    goals_m = np.stack([goal_above(blocks[0]) for blocks in blocks_m])
    return distance_m(seen_m, goals_m), shown


def visible_scenes(table: SimulatedTable, eye: Eye, num: int) -> list[Scene]:
    """Return the first scenes in which gripper and blocks are all seen.

    Raises:
        SampleError: there are too few.
    """
    found: list[Scene] = []
    for number in range(4 * num):
        scene = table.scene(number)
        is_seen = np.isfinite(eye.gripper_m(scene.frame_HWC[None])).all()
        if is_seen and all(eye.block_m(scene.frame_HWC, b.color) is not None for b in scene.blocks):
            found.append(scene)
        if len(found) == num:
            return found
    raise SampleError(
        f"Gripper and blocks are seen in {len(found)} of {4 * num} scenes of "
        f"{table.form.width}x{table.form.height} pixels; expected {num}. Use a world of larger "
        "pictures."
    )


def seen_blocks(eye: Eye, scene: Scene) -> list[np.ndarray]:
    """Where the blocks of a scene are seen, the named one first."""
    seen = [eye.block_m(scene.frame_HWC, block.color) for block in scene.blocks]
    return [block_m for block_m in seen if block_m is not None]


def success(ends_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Success of episodes that end so far from the goal: 0 to 1 in steps of the grades."""
    return np.mean([ends_m <= grade for grade in GRADES_M], axis=0)


def rank_correlation(first_P: NDArray[np.float64], second_P: NDArray[np.float64]) -> float:
    """Spearman's correlation; 0 where one side finds all policies alike and so orders none."""
    if np.ptp(first_P) == 0 or np.ptp(second_P) == 0:
        return 0.0
    # scipy's spearmanr also tests for significance, which takes most of its time.
    return float(np.corrcoef(rankdata(first_P), rankdata(second_P))[0, 1])


def _median_cm(ends_N: NDArray[np.float64]) -> float | None:
    median = float(np.median(ends_N))
    return 100 * median if np.isfinite(median) else None
