"""Search for actions by the cross-entropy method (Rubinstein, 1999; de Boer et al., 2005).

Candidates are drawn from a normal distribution, tried, and the best ones give the next
distribution. A candidate is a way for each part of a chunk, which the gripper covers smoothly.

Shape suffixes: N candidates, S parts of a chunk, 3 coordinates, K actions, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError
from post_training.robotics.simulation.scene import WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from post_training.robotics.usefulness.environment import Form
from post_training.robotics.usefulness.policies import actions_along, longest_way_m

LOW_M = np.array([*WORKSPACE_LOW_M[:2], 0.12])
"""Lowest corner of where plans lead: above the blocks."""

Costs = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""The cost of each of N candidates (N, S, 3); infinite for one that cannot be judged."""


@dataclass(frozen=True)
class Budget:
    """What a search may try; the same in the world model and in the simulator.

    Attributes:
        candidates: candidates of an iteration.
        iterations: iterations.
        elites: candidates that give the next distribution.
        num_parts: parts of a chunk, each with a way of its own.
        spread: standard deviation of the first ways, as a share of the distance from the goal.
        least_spread_m: the standard deviation near the goal.
    """

    candidates: int = 24
    iterations: int = 3
    elites: int = 6
    num_parts: int = 1
    spread: float = 0.5
    least_spread_m: float = 0.03

    def __post_init__(self) -> None:
        if not 2 <= self.elites <= self.candidates or self.iterations < 1:
            raise ConfigError(
                f"A search of {self.candidates} candidates, {self.elites} elites and "
                f"{self.iterations} iterations is not possible: expected at least 2 elites, as "
                "many candidates, and 1 iteration."
            )

    @classmethod
    def of(cls, candidates: int, iterations: int) -> Self:
        """Return a budget whose best quarter of candidates are the elites."""
        return cls(candidates, iterations, max(2, candidates // 4))

    def spread_m(self, distance_m: float) -> NDArray[np.float64]:
        """Return the standard deviation ``(S, 3)`` of the first ways at a distance."""
        spread_m = max(self.least_spread_m, self.spread * distance_m)
        return np.full((self.num_parts, 3), spread_m)

    @property
    def num_rollouts(self) -> int:
        """Rollouts of one search."""
        return self.candidates * self.iterations

    def describe(self) -> dict[str, Any]:
        """Return plain data for the record."""
        return {
            "candidates": self.candidates,
            "iterations": self.iterations,
            "elites": self.elites,
            "num_parts": self.num_parts,
            "spread": self.spread,
            "least_spread_m": self.least_spread_m,
        }


def search(
    costs: Costs,
    budget: Budget,
    start_m: NDArray[np.float64],
    goal_m: NDArray[np.float64],
    form: Form,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the ways ``(S, 3)`` that the search ends with.

    Args:
        costs: the cost of candidates.
        budget: how many are tried.
        start_m: where the gripper is, ``(3,)``.
        goal_m: where it should be, of which the distance alone is used here.
        form: the form of a chunk, which limits the ways.
        rng: source of chance.
    """
    std_S3 = budget.spread_m(float(np.linalg.norm(goal_m - start_m)))
    mean_S3 = np.zeros_like(std_S3)
    for _ in range(budget.iterations):
        ways_NS3 = draw(mean_S3, std_S3, budget.candidates, start_m, form, rng)
        order_N = np.argsort(costs(ways_NS3), kind="stable")
        elites_ES3 = ways_NS3[order_N[: budget.elites]]
        mean_S3, std_S3 = elites_ES3.mean(0), elites_ES3.std(0)
    return mean_S3


def draw(
    mean_S3: NDArray[np.float64],
    std_S3: NDArray[np.float64],
    num: int,
    start_m: NDArray[np.float64],
    form: Form,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw candidates ``(N, S, 3)`` that stay in the workspace and are no longer than can be gone.

    Args:
        mean_S3: mean of each way.
        std_S3: standard deviation of each way.
        num: how many to draw.
        start_m: where the gripper is, ``(3,)``.
        form: the form of a chunk.
        rng: source of chance.
    """
    ways_NS3 = mean_S3 + std_S3 * rng.normal(size=(num, *mean_S3.shape))
    lengths_NS1 = np.linalg.norm(ways_NS3, axis=-1, keepdims=True)
    longest_m = longest_way_m(_part(form, len(mean_S3)))
    ways_NS3 = ways_NS3 * np.minimum(1, longest_m / np.maximum(lengths_NS1, 1e-9))
    # Outside neither the robot's reach nor what a model was shown can be relied on.
    places_NS3 = np.clip(start_m + ways_NS3.cumsum(1), LOW_M, WORKSPACE_HIGH_M)
    first_N13 = np.broadcast_to(np.clip(start_m, LOW_M, WORKSPACE_HIGH_M), (num, 1, 3))
    return np.diff(places_NS3, axis=1, prepend=first_N13)


def actions_of(ways_S3: NDArray[np.float64], opening: float, form: Form) -> np.ndarray:
    """Return the chunk of actions ``(K, A)`` that covers the ways one after the other."""
    part = _part(form, len(ways_S3))
    chunks = [actions_along(way_3, opening, part) for way_3 in ways_S3]
    rest = form.num_actions - len(chunks) * part.num_actions
    still = actions_along(np.zeros(3), opening, part)[:1]
    return np.concatenate([*chunks, *[still] * rest])


def _part(form: Form, num_parts: int) -> Form:
    """The form of a part of a chunk."""
    if form.num_actions < num_parts:
        raise ConfigError(
            f"A chunk of {form.num_actions} actions has no {num_parts} parts. Use a world that "
            "makes longer videos."
        )
    return Form(form.num_actions // num_parts, form.height, form.width, form.fps)
