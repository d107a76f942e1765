"""Scripted policies for the robot's table, of very different competence.

All of them want to bring the gripper above the block that the task names. They look at the table
once before each chunk of actions, and each does something else wrong, or nothing. Whoever ranks
them by a world model must find the same order as the simulator.

Shape suffixes: K actions of a chunk, 7 numbers of an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from post_training.robotics.simulation.arm import DOWN, action_scale
from post_training.robotics.simulation.motion import PEAK_SPEED_M_S
from post_training.robotics.usefulness.environment import Form

HOVER_M = 0.13
"""Height of the goal above the table; the block below it ends at half of that."""

_PEAK_TO_MEAN = 15 / 8  # of a minimum-jerk motion


@dataclass(frozen=True)
class Sight:
    """What a policy knows before a chunk.

    Attributes:
        gripper_m: where the gripper is seen, ``(3,)``.
        blocks_m: where the blocks are seen, the one that the task names first.
        opening: opening of the fingers.
    """

    gripper_m: np.ndarray
    blocks_m: Sequence[np.ndarray]
    opening: float


@dataclass(frozen=True)
class Policy:
    """A way to act, with its faults.

    Attributes:
        name: its name.
        description: its fault, in a few words.
        gain: share of the way to its goal that it tries to cover in a chunk.
        bias_m: added to its goal.
        noise_m: standard deviation of where it believes its goal to be, drawn for each chunk.
        late: share of each chunk that passes before it moves.
        block: number of the block that it heads for; None for a random place.
        mirrored: whether it confuses left and right.
        is_idle: whether it does nothing.
    """

    name: str
    description: str
    gain: float = 1.0
    bias_m: Sequence[float] = (0.0, 0.0, 0.0)
    noise_m: float = 0.0
    late: float = 0.0
    block: int | None = 0
    mirrored: bool = False
    is_idle: bool = False

    def act(self, sight: Sight, form: Form, rng: np.random.Generator) -> np.ndarray:
        """Return the actions of the next chunk, ``(K, 7)``.

        Args:
            sight: what it sees.
            form: the form of a chunk.
            rng: source of its errors; the same in every environment.
        """
        noise_m = rng.normal(0, 1, 3) * self.noise_m
        aimless_m = rng.uniform([-0.2, -0.2, -0.15], [0.2, 0.2, 0.15])
        if self.is_idle:
            return actions_along(np.zeros(3), sight.opening, form)
        if self.block is None:
            way_m = aimless_m
        else:
            target_m = sight.blocks_m[self.block % len(sight.blocks_m)]
            goal_m = goal_above(target_m) + np.asarray(self.bias_m) + noise_m
            way_m = self.gain * (goal_m - sight.gripper_m)
        if self.mirrored:
            way_m = way_m * np.array([-1, 1, 1])
        return actions_along(way_m, sight.opening, form, self.late)

    def describe(self) -> dict[str, Any]:
        """Return plain data for the record."""
        return {"name": self.name, "description": self.description}


POLICIES: tuple[Policy, ...] = (
    Policy("expert", "heads straight for the goal"),
    Policy("hesitant", "covers four fifths of the way in a chunk", gain=0.8),
    Policy("cautious", "covers half of the way in a chunk", gain=0.5),
    Policy("timid", "covers a quarter of the way in a chunk", gain=0.25),
    Policy("shaky", "errs by 4 cm in each direction", noise_m=0.04),
    Policy("drunk", "errs by 9 cm in each direction", noise_m=0.09),
    Policy("biased", "stops 8 cm too far to the right", bias_m=(0.08, 0.0, 0.0)),
    Policy("hasty", "overshoots by half", gain=1.5),
    Policy("late", "lets three fifths of each chunk pass, then runs out of time", late=0.6),
    Policy("confused", "heads for another block", block=1),
    Policy("mirrored", "takes left for right", mirrored=True),
    Policy("random", "heads anywhere", block=None),
    Policy("idle", "does nothing", is_idle=True),
)


def goal_above(block_m: np.ndarray) -> np.ndarray:
    """Where the gripper should be to hover above a block."""
    return np.array([block_m[0], block_m[1], HOVER_M])


def actions_along(way_m: np.ndarray, opening: float, form: Form, late: float = 0.0) -> np.ndarray:
    """Return a chunk of actions ``(K, 7)`` that moves the gripper smoothly without turning it.

    Args:
        way_m: the way in the world's axes; one too long for the robot's speed is cut.
        opening: opening of the fingers.
        form: the form of a chunk.
        late: share of the chunk in which nothing happens; what then is too fast is cut, too.
    """
    moving = max(1, round(form.num_actions * (1 - late)))
    longest_m = longest_way_m(form) * moving / form.num_actions
    length_m = float(np.linalg.norm(way_m))
    if length_m > longest_m:
        way_m = way_m * (longest_m / length_m)
    s = np.linspace(0, 1, moving + 1)
    blend = s**3 * (10 - 15 * s + 6 * s**2)  # minimum jerk, as the simulated robot moves
    shares_K = np.concatenate([np.zeros(form.num_actions - moving), np.diff(blend)])
    return to_actions(shares_K[:, None] * np.asarray(way_m), opening, form)


def longest_way_m(form: Form) -> float:
    """Way within a chunk whose fastest moment is as fast as the simulated robot moves."""
    return PEAK_SPEED_M_S * form.num_actions / form.fps / _PEAK_TO_MEAN


def to_actions(steps_K3: np.ndarray, opening: float, form: Form) -> np.ndarray:
    """Return the actions of a gripper that points down and moves by steps in the world's axes.

    Args:
        steps_K3: motion within each frame in metres.
        opening: opening of the fingers.
        form: the form of a chunk.
    """
    actions_K7 = np.zeros((len(steps_K3), 7))
    actions_K7[:, :3] = DOWN.inv().apply(steps_K3)
    actions_K7[:, 6] = opening
    return (actions_K7 * action_scale(form.fps)).astype(np.float32)
