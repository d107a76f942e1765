"""Moves of a camera as filmmakers name them, and keys held like those of a game, as a path.

A path begins at the origin, level, and looks along z (OpenCV's axes: x right, y down, z forward).
What "up" is comes from the first frame: a pan turns about its vertical, so that the horizon stays
level after a tilt.

========  ==========================================================  =======
move      what it does                                                amount
========  ==========================================================  =======
pan       turns to the right about the vertical                       degrees
tilt      turns upwards                                               degrees
roll      turns clockwise about its own axis                          degrees
orbit     goes to the right around what it looks at, and keeps        degrees
          looking at it
dolly     goes forward                                                metres
truck     goes to the right                                           metres
pedestal  goes up along the vertical                                  metres
========  ==========================================================  =======

A negative amount does the opposite. Moves follow each other; those joined by ``+`` go on at once.
A step is what happens between two frames.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import ConfigError, counted, nearest_names

Matrix = NDArray[np.float64]

MAX_STEPS = 100_000
_UP = np.array([0.0, -1.0, 0.0])
_MOVE = re.compile(r"([a-z]+):([^:]+)")


class Place(NamedTuple):
    """Where a camera is: a camera-to-world rotation and a position."""

    rotation_33: Matrix
    position_3: Matrix


@dataclass(frozen=True)
class Move:
    """Part of a path.

    Attributes:
        amounts: what goes on at once: degrees or metres in all, by the name of the move.
        num_steps: steps that it takes; None for an equal share of those that are left.
    """

    amounts: Mapping[str, float]
    num_steps: int | None = None


@dataclass(frozen=True)
class Speeds:
    """What a key that is held does in a step.

    Attributes:
        step_m: metres.
        step_deg: degrees.
    """

    step_m: float = 0.05
    step_deg: float = 1.0


def _turned(axis_3: Matrix, angle_deg: float) -> Matrix:
    return np.asarray(Rotation.from_rotvec(np.radians(angle_deg) * axis_3).as_matrix())


def _pan(place: Place, amount: float, _: float) -> Place:
    return place._replace(rotation_33=_turned(-_UP, amount) @ place.rotation_33)


def _tilt(place: Place, amount: float, _: float) -> Place:
    return place._replace(rotation_33=place.rotation_33 @ _turned(np.array([1.0, 0, 0]), amount))


def _roll(place: Place, amount: float, _: float) -> Place:
    return place._replace(rotation_33=place.rotation_33 @ _turned(np.array([0, 0, 1.0]), amount))


def _orbit(place: Place, amount: float, distance_m: float) -> Place:
    pivot_3 = place.position_3 + distance_m * place.rotation_33[:, 2]
    turn_33 = _turned(_UP, amount)
    return Place(turn_33 @ place.rotation_33, pivot_3 + turn_33 @ (place.position_3 - pivot_3))


def _dolly(place: Place, amount: float, _: float) -> Place:
    return place._replace(position_3=place.position_3 + amount * place.rotation_33[:, 2])


def _truck(place: Place, amount: float, _: float) -> Place:
    return place._replace(position_3=place.position_3 + amount * place.rotation_33[:, 0])


def _pedestal(place: Place, amount: float, _: float) -> Place:
    return place._replace(position_3=place.position_3 + amount * _UP)


MOVES: Mapping[str, Callable[[Place, float, float], Place]] = {
    "pan": _pan,
    "tilt": _tilt,
    "roll": _roll,
    "orbit": _orbit,
    "dolly": _dolly,
    "truck": _truck,
    "pedestal": _pedestal,
}
TURNS = frozenset({"pan", "tilt", "roll", "orbit"})
"""Moves whose amount is an angle."""

KEYS: Mapping[str, tuple[str, int]] = {
    "w": ("dolly", 1),
    "s": ("dolly", -1),
    "a": ("truck", -1),
    "d": ("truck", 1),
    "r": ("pedestal", 1),
    "f": ("pedestal", -1),
    "j": ("pan", -1),
    "l": ("pan", 1),
    "i": ("tilt", 1),
    "k": ("tilt", -1),
    "u": ("roll", -1),
    "o": ("roll", 1),
}
"""What each key does: the left hand goes, the right hand looks."""


def parse_move(text: str) -> Move:
    """Read a move: ``pan:30``, ``dolly:-0.5:8`` (in 8 steps), ``pan:30+dolly:0.5:8`` (at once).

    Raises:
        ConfigError: it is none; says what is expected.
    """
    words, _, tail = text.rpartition(":")
    num_steps: int | None = None
    if ":" in words.rpartition("+")[2]:
        num_steps = _whole(tail, text)
    else:
        words = text
    amounts: dict[str, float] = {}
    for word in words.split("+"):
        found = _MOVE.fullmatch(word.strip())
        if found is None:
            raise ConfigError(
                f"'{text}' is no move of a camera; expected MOVE:AMOUNT or MOVE:AMOUNT:STEPS, such "
                "as pan:30 or dolly:0.5:8, or several at once as pan:30+dolly:0.5:8."
            )
        name = found[1]
        if name not in MOVES:
            raise ConfigError(
                f"There is no move '{name}'. The nearest are {nearest_names(name, MOVES)}; all: "
                f"{', '.join(MOVES)}."
            )
        if name in amounts:
            raise ConfigError(f"'{text}' has {name} twice at once; give their sum.")
        amounts[name] = _amount(found[2], text)
    return Move(amounts, num_steps)


def parse_keys(text: str, speeds: Speeds | None = None) -> list[Move]:
    """Read keys as they are held, a step each: ``wwwll``, ``w3 l2``; ``.`` waits for a step.

    Args:
        text: the keys of :data:`KEYS`; a number behind one holds it for so many steps.
        speeds: what a key does in a step.

    Raises:
        ConfigError: there is no such key.
    """
    speeds = speeds or Speeds()
    moves: list[Move] = []
    for word in re.findall(r"\S\d*", text):
        key, count = word[0], word[1:]
        if key != "." and key not in KEYS:
            names = ", ".join(f"{key} {_described(key)}" for key in KEYS)
            raise ConfigError(f"There is no key '{key}' to steer a camera. Keys: {names}, . waits.")
        num_steps = _whole(count, text) if count else 1
        amounts: dict[str, float] = {}
        if key != ".":
            name, sign = KEYS[key]
            step = speeds.step_deg if name in TURNS else speeds.step_m
            amounts = {name: sign * step * num_steps}
        moves.append(Move(amounts, num_steps))
    return moves


def camera_path(moves: Sequence[Move], num_frames: int, distance_m: float = 1.0) -> Matrix:
    """Camera-to-world matrices ``(T, 4, 4)`` of moves one after the other.

    After the last move the camera stands still.

    Args:
        moves: the moves.
        num_frames: T.
        distance_m: how far in front of the camera an orbit's middle is.

    Raises:
        ConfigError: the moves take more steps than there are between the frames.
    """
    place = Place(np.eye(3), np.zeros(3))
    places = [place]
    for move, num_steps in zip(moves, _shared_out(moves, num_frames - 1), strict=True):
        for _ in range(num_steps):
            for name, amount in move.amounts.items():
                place = MOVES[name](place, amount / num_steps, distance_m)
            places.append(place)
    places += [place] * (num_frames - len(places))
    poses_T44 = np.tile(np.eye(4), (num_frames, 1, 1))
    poses_T44[:, :3, :3] = [place.rotation_33 for place in places]
    poses_T44[:, :3, 3] = [place.position_3 for place in places]
    return poses_T44


def camera_signal(
    poses_T44: Matrix, size: tuple[int, int], fov_x_deg: float = 60.0
) -> dict[str, Array]:
    """The camera signal of a path with a pinhole whose middle is the picture's.

    Args:
        poses_T44: camera to world, of each frame.
        size: height and width of the picture in pixels.
        fov_x_deg: horizontal field of view.
    """
    height, width = size
    focal_px = width / 2 / math.tan(math.radians(fov_x_deg) / 2)
    lens_33 = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])
    return {
        "poses": poses_T44,
        "intrinsics": np.tile(lens_33, (len(poses_T44), 1, 1)),
        "size": np.array([height, width]),
    }


def _shared_out(moves: Sequence[Move], num_steps: int) -> list[int]:
    """Steps of each move; those without a number share what is left, the first ones more."""
    said = sum(move.num_steps or 0 for move in moves)
    open_ones = sum(move.num_steps is None for move in moves)
    left = num_steps - said
    if left < open_ones:
        raise ConfigError(
            f"The moves take {counted(said + open_ones, 'step')}, but a video of "
            f"{counted(num_steps + 1, 'frame')} has {num_steps}: one between every two frames. "
            "Ask for more frames, or give the moves fewer steps."
        )
    shares = iter(len(part) for part in np.array_split(np.arange(left), max(open_ones, 1)))
    return [next(shares) if move.num_steps is None else move.num_steps for move in moves]


def _described(key: str) -> str:
    name, sign = KEYS[key]
    return f"{'+' if sign > 0 else '-'}{name}"


def _amount(text: str, where: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not math.isfinite(amount):
        raise ConfigError(
            f"'{text}' in '{where}' is no amount; expected a number: degrees of a turn, metres of "
            "a way."
        )
    return amount


def _whole(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= MAX_STEPS:
        raise ConfigError(
            f"'{text}' in '{where}' is no number of steps; expected a whole one from 1 to "
            f"{MAX_STEPS:,}."
        )
    return int(text)
