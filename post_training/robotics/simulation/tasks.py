"""The robot's scripted tasks, each with its words, its waypoints and a test of success.

Directions are those of the picture: left and right along the table, up and down, forward (away from
the camera) and back (towards it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from post_training.robotics.simulation.motion import Waypoint
from post_training.robotics.simulation.scene import (
    BLOCK_HALF_M,
    COLORS,
    MAX_NUM_BLOCKS,
    WORKSPACE_HIGH_M,
    WORKSPACE_LOW_M,
    Block,
)

DIRECTIONS: dict[str, tuple[float, float, float]] = {
    "left": (-1, 0, 0),
    "right": (1, 0, 0),
    "forward": (0, 1, 0),
    "back": (0, -1, 0),
    "up": (0, 0, 1),
    "down": (0, 0, -1),
}
TABLE_DIRECTIONS = ("left", "right", "forward", "back")

# Seven, so that every tenth episode (the validation split) comes through all of them.
TASK_CYCLE = ("move", "reach", "explore", "push", "move", "lift", "explore")

_HOVER_M = 0.15
_GRASP_HEIGHT_M = 0.042  # any lower, and the palm would sit on the block
_TOUCH_HEIGHT_M = 0.075
_PUSH_M = 0.13
_PUSH_START_M = 0.085
_MIN_GAP_M = 0.12
_MAX_TURN_RAD = np.array([0.15, 0.15, 0.35])
_TRIES = 200

Objects = list[np.ndarray]


@dataclass(frozen=True)
class Task:
    """One episode's scene, words and waypoints.

    Attributes:
        kind: ``reach``, ``push``, ``lift``, ``move`` or ``explore``.
        instruction: command to the robot, as a person would give it.
        caption: description of the video, as a person would give it.
        blocks: blocks on the table at the start.
        waypoints: waypoints of the gripper, the first at frame 0.
        succeeded: test of success, given the gripper's first and last position and the blocks'
            first and last positions.
    """

    kind: str
    instruction: str
    caption: str
    blocks: list[Block]
    waypoints: list[Waypoint]
    succeeded: Callable[[np.ndarray, np.ndarray, Objects, Objects], bool]


def make_task(kind: str, rng: np.random.Generator) -> Task:
    """Draw a task of one kind."""
    return _MAKERS[kind](rng)


def _reach(rng: np.random.Generator) -> Task:
    blocks, start = _draw_blocks(rng), _draw_start(rng)
    goal = _above(blocks[0], _TOUCH_HEIGHT_M)
    color = blocks[0].color
    return Task(
        "reach",
        f"reach the {color} block",
        f"A robot arm reaches for the {color} block on a wooden table.",
        blocks,
        [
            start,
            Waypoint(_above(blocks[0], _HOVER_M), start.turn_rad, start.opening),
            Waypoint(goal, opening=start.opening),
        ],
        lambda first, last, before, after: bool(np.linalg.norm(last - goal) < 0.02),
    )


def _push(rng: np.random.Generator) -> Task:
    name = str(rng.choice(TABLE_DIRECTIONS))
    direction = np.array(DIRECTIONS[name])
    blocks = _draw_blocks(rng, room_m=_PUSH_M * direction)
    begin = _above(blocks[0], _GRASP_HEIGHT_M) - _PUSH_START_M * direction
    hover = begin + np.array([0, 0, _HOVER_M - _GRASP_HEIGHT_M])
    color = blocks[0].color
    where = {"forward": "away from the camera", "back": "towards the camera"}
    where |= {"left": "to the left", "right": "to the right"}

    def succeeded(first: np.ndarray, last: np.ndarray, before: Objects, after: Objects) -> bool:
        return bool((after[0] - before[0]) @ direction > _PUSH_M / 2)

    return Task(
        "push",
        f"push the {color} block {where[name]}",
        f"A robot arm pushes the {color} block {where[name]} on a wooden table.",
        blocks,
        [
            _draw_start(rng, opening=0.0),
            Waypoint(hover, opening=0.0),
            Waypoint(begin, opening=0.0),
            Waypoint(begin + (_PUSH_START_M - BLOCK_HALF_M + _PUSH_M) * direction, opening=0.0),
        ],
        succeeded,
    )


def _lift(rng: np.random.Generator) -> Task:
    blocks = _draw_blocks(rng, max_yaw_rad=0.25)
    turn = np.array([0, 0, blocks[0].yaw_rad])
    grasp = _above(blocks[0], _GRASP_HEIGHT_M)
    lifted = grasp + np.array([0, 0, rng.uniform(0.14, 0.2)])
    color = blocks[0].color
    return Task(
        "lift",
        f"lift the {color} block",
        f"A robot arm picks up the {color} block and lifts it from a wooden table.",
        blocks,
        [
            _draw_start(rng, opening=1.0),
            Waypoint(_above(blocks[0], _HOVER_M), turn),
            Waypoint(grasp, turn),
            Waypoint(grasp, turn, opening=0.3, wait_s=0.1),
            Waypoint(lifted, turn, opening=0.3),
        ],
        lambda first, last, before, after: bool(after[0][2] - before[0][2] > 0.08),
    )


def _move(rng: np.random.Generator) -> Task:
    names = rng.permutation(list(DIRECTIONS))[: rng.integers(2, 4)]
    waypoints = [_draw_start(rng)]
    moved = []
    for name in map(str, names):
        direction = np.array(DIRECTIONS[name])
        start = waypoints[-1].position_m
        room = np.where(direction > 0, WORKSPACE_HIGH_M - start, start - _free_low())
        length = min(float(room @ np.abs(direction)), rng.uniform(0.15, 0.3))
        if length > 0.1:
            end = start + length * direction
            waypoints.append(Waypoint(end, waypoints[-1].turn_rad, waypoints[-1].opening))
            moved.append(name)
    if not moved:
        return _move(rng)
    words = ", then ".join(moved)
    total = waypoints[-1].position_m - waypoints[0].position_m
    return Task(
        "move",
        f"move the gripper {words}",
        f"A robot arm moves its gripper {words} above a wooden table.",
        _draw_blocks(rng),
        waypoints,
        lambda first, last, before, after: bool(np.linalg.norm(last - first - total) < 0.02),
    )


def _explore(rng: np.random.Generator) -> Task:
    waypoints = [_draw_start(rng)]
    for _ in range(8):
        turn = rng.uniform(-1, 1, 3) * _MAX_TURN_RAD * (rng.random() < 0.5)
        opening = float(rng.choice([0.0, 1.0, waypoints[-1].opening]))
        waypoints.append(Waypoint(_draw_position(rng), turn, opening))
    return Task(
        "explore",
        "move around freely",
        "A robot arm moves around freely above a wooden table.",
        _draw_blocks(rng),
        waypoints,
        lambda first, last, before, after: True,
    )


_MAKERS: dict[str, Callable[[np.random.Generator], Task]] = {
    "explore": _explore,
    "lift": _lift,
    "move": _move,
    "push": _push,
    "reach": _reach,
}


def _draw_blocks(
    rng: np.random.Generator, max_yaw_rad: float = 0.0, room_m: np.ndarray | None = None
) -> list[Block]:
    """Two or three blocks of different colours, apart from each other; the first is the target.

    Args:
        rng: source of chance.
        max_yaw_rad: the blocks are turned by up to this.
        room_m: way that the target is to be pushed, which must stay free.
    """
    colors = rng.permutation(list(COLORS))[: rng.integers(2, MAX_NUM_BLOCKS + 1)]
    way = np.zeros(2) if room_m is None else room_m[:2]
    low, high = WORKSPACE_LOW_M[:2] + 0.03, WORKSPACE_HIGH_M[:2] - 0.03
    first = rng.uniform(np.maximum(low, low - way), np.minimum(high, high - way))
    taken = [first, first + way / 2, first + way, first - 0.8 * way] if way.any() else [first]
    spots = [first]
    for _ in range(_TRIES):
        spot = rng.uniform(low, high)
        if len(spots) < len(colors) and all(np.linalg.norm(spot - t) > _MIN_GAP_M for t in taken):
            spots.append(spot)
            taken.append(spot)
    yaws = rng.uniform(-1, 1, len(spots)) * max_yaw_rad
    return [
        Block(str(color), float(spot[0]), float(spot[1]), float(yaw))
        for color, spot, yaw in zip(colors, spots, yaws, strict=False)
    ]


def _draw_start(rng: np.random.Generator, opening: float | None = None) -> Waypoint:
    chosen = float(rng.integers(0, 2)) if opening is None else opening
    return Waypoint(_draw_position(rng), opening=chosen)


def _draw_position(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(_free_low(), WORKSPACE_HIGH_M)


def _free_low() -> np.ndarray:
    """The lowest corner of where the gripper touches no block."""
    return np.array([*WORKSPACE_LOW_M[:2], 2 * BLOCK_HALF_M + 0.05])


def _above(block: Block, height_m: float) -> np.ndarray:
    return np.array([block.x_m, block.y_m, height_m])
