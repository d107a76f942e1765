"""How a car drives through a town for a second or two: along a lane, into another, around a corner.

A first frame does not say how fast a car is and what it is about to do; the path does. Paths are
arcs of a changing curvature and speed, so that the car looks along its path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nemo_cosmos.aliases import Array
from post_training.driving.town.plan import BLOCK_M, LANE_M, STREET_M

MANOEUVRES = {
    "drives straight on": 0.28,
    "speeds up": 0.08,
    "brakes": 0.08,
    "turns left": 0.2,
    "turns right": 0.2,
    "moves over to the left": 0.08,
    "moves over to the right": 0.08,
}
"""What a car does, in words, and how often."""
_SUBSTEPS = 20
_RIGHT_RADIUS_M, _LEFT_RADIUS_M = (5.5, 7.5), (9.0, 12.0)
_MAX_SIDEWAYS_RAD = 0.22


@dataclass(frozen=True)
class Drive:
    """One drive.

    Attributes:
        words: what the car does.
        vehicle_T44: its poses, vehicle to world.
    """

    words: str
    vehicle_T44: Array

    @property
    def trajectory(self) -> Array:
        """Positions in the axes of the first frame, ``(T, 3)`` in metres."""
        first_44 = np.linalg.inv(self.vehicle_T44[0])
        return np.asarray((first_44 @ self.vehicle_T44)[:, :3, 3])


def draw_drive(random: np.random.Generator, num_frames: int, fps: float) -> Drive:
    """Draw a drive.

    Args:
        random: the source of chance.
        num_frames: T.
        fps: frames per second.
    """
    words = str(random.choice(list(MANOEUVRES), p=list(MANOEUVRES.values())))
    duration_s = (num_frames - 1) / fps
    time_S = np.linspace(0, duration_s, (num_frames - 1) * _SUBSTEPS + 1)
    speed_S = np.full(len(time_S), random.uniform(1.0, 9.0))
    curvature_S = np.zeros(len(time_S))
    start_m = random.uniform(-0.45, 0.2) * BLOCK_M
    if words == "speeds up":
        speed_S = random.uniform(0, 3) + time_S * random.uniform(2, 4)
    elif words == "brakes":
        speed_S = np.maximum(random.uniform(5, 9) - time_S * random.uniform(3, 6), 0)
    elif words.startswith("turns"):
        start_m, curvature_S, speed_S = _turn(random, words.endswith("left"), time_S)
    elif words.startswith("moves"):
        sign = 1 if words.endswith("left") else -1
        speed_S = np.full(len(time_S), random.uniform(4.0, 9.0))
        # Out and back: the heading swings by its largest angle and returns.
        turn_rad = random.uniform(0.5, 1) * _MAX_SIDEWAYS_RAD
        length_m = speed_S[0] * duration_s
        wave = np.sin(2 * np.pi * time_S / duration_s)
        curvature_S = sign * wave * turn_rad * np.pi / length_m
    poses_S44 = _integrate(speed_S, curvature_S, time_S[1] - time_S[0])
    return Drive(words, _placed(random, poses_S44[::_SUBSTEPS], start_m))


def _turn(random: np.random.Generator, is_left: bool, time_S: Array) -> tuple[float, Array, Array]:
    """Where a turn's drive begins along the street, its curvature and its speed."""
    radius_m = random.uniform(*(_LEFT_RADIUS_M if is_left else _RIGHT_RADIUS_M))
    speed_S = np.full(len(time_S), random.uniform(3.0, 6.0 if is_left else 5.0))
    lead_m = random.uniform(0, 2.5)
    # The arc ends on the right lane of the street across.
    arc_start_m = (LANE_M if is_left else -LANE_M) - radius_m
    way_S = np.concatenate([[0], np.cumsum(speed_S[1:] * np.diff(time_S))]) - lead_m
    is_turning_S = (way_S >= 0) & (way_S < radius_m * np.pi / 2)
    sign = 1 if is_left else -1
    return arc_start_m - lead_m, sign * is_turning_S / radius_m, speed_S


def _integrate(speed_S: Array, curvature_S: Array, step_s: float) -> Array:
    """Poses along an arc of changing curvature and speed, from the origin along x."""
    way = np.concatenate([[0], (speed_S[1:] + speed_S[:-1]) / 2 * step_s])
    heading = np.cumsum(way * np.concatenate([[0], (curvature_S[1:] + curvature_S[:-1]) / 2]))
    middle = heading - np.diff(heading, prepend=0) / 2
    poses_S44 = np.tile(np.eye(4), (len(way), 1, 1))
    poses_S44[:, 0, 0] = poses_S44[:, 1, 1] = np.cos(heading)
    poses_S44[:, 1, 0] = np.sin(heading)
    poses_S44[:, 0, 1] = -np.sin(heading)
    poses_S44[:, 0, 3] = np.cumsum(way * np.cos(middle))
    poses_S44[:, 1, 3] = np.cumsum(way * np.sin(middle))
    return poses_S44


def _placed(random: np.random.Generator, poses_T44: Array, start_m: float) -> Array:
    """Poses on the right lane of a street, in one of the four directions."""
    on_street = np.eye(4)
    on_street[:2, 3] = start_m, -LANE_M + random.uniform(-0.25, 0.25)
    quarter = random.integers(4) * np.pi / 2
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(quarter), -np.sin(quarter)], [np.sin(quarter), np.cos(quarter)]]
    placed_T44: Array = np.round(turned) @ on_street @ poses_T44
    return placed_T44


def is_on_street(vehicle_T44: Array) -> bool:
    """Whether a car stays between the curbs."""
    off = (vehicle_T44[:, :2, 3] + BLOCK_M / 2) % BLOCK_M - BLOCK_M / 2
    return bool((np.abs(off).min(axis=1) < STREET_M - 1).all())
