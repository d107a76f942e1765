"""Smooth paths: from a few waypoints to one target pose a frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from post_training.robotics.simulation.arm import DOWN, Pose

PEAK_SPEED_M_S = 0.48
PEAK_SPEED_RAD_S = 0.48
MAX_SLOWDOWN = 1.6
_FILLED = 0.9  # of the video, where slowing down allows it
_PEAK_OPENING_PER_S = 5.0
# The fastest moment of a minimum-jerk motion is 15/8 of its mean speed.
_PEAK_TO_MEAN = 15 / 8


@dataclass(frozen=True)
class Waypoint:
    """A pose to come to rest at.

    Attributes:
        position_m: position of the point between the finger tips.
        turn_rad: about the world's x, y and z axes, from pointing straight down at yaw 0.
        opening: opening of the fingers, 0 closed to 1 open.
        wait_s: time to stay.
    """

    position_m: np.ndarray
    turn_rad: np.ndarray = field(default_factory=lambda: np.zeros(3))
    opening: float = 1.0
    wait_s: float = 0.0

    def pose(self) -> Pose:
        """As a pose of the gripper."""
        return Pose(self.position_m, Rotation.from_euler("xyz", self.turn_rad) * DOWN)


def duration_s(start: Waypoint, end: Waypoint) -> float:
    """How long the way takes when no speed exceeds its peak."""
    way_m = float(np.linalg.norm(end.position_m - start.position_m))
    turn_rad = float(np.linalg.norm(end.turn_rad - start.turn_rad))
    opening = abs(end.opening - start.opening)
    at_peak_s = max(
        way_m / PEAK_SPEED_M_S, turn_rad / PEAK_SPEED_RAD_S, opening / _PEAK_OPENING_PER_S
    )
    return at_peak_s * _PEAK_TO_MEAN


def path(waypoints: list[Waypoint], num_frames: int, fps: float) -> list[tuple[Pose, float]]:
    """Pose and opening at each frame.

    A path shorter than the video is slowed down, at most by :data:`MAX_SLOWDOWN`, and then stays
    where it ends; a longer one is cut.

    Args:
        waypoints: the first is where the gripper is at frame 0.
        num_frames: length T of the result.
        fps: frames per second.
    """
    total_s = sum(end.wait_s for end in waypoints)
    total_s += sum(duration_s(start, end) for start, end in pairwise(waypoints))
    slowdown = np.clip(_FILLED * (num_frames - 1) / fps / max(total_s, 1e-9), 1, MAX_SLOWDOWN)
    frames = [_at(waypoints, index / fps / slowdown) for index in range(num_frames)]
    return [(frame.pose(), frame.opening) for frame in frames]


def _at(waypoints: list[Waypoint], time_s: float) -> Waypoint:
    """Where the path is at a time: minimum jerk between waypoints (Flash and Hogan, 1985)."""
    for start, end in pairwise(waypoints):
        time_s -= start.wait_s
        if time_s <= 0:
            return start
        length_s = duration_s(start, end)
        if time_s < length_s:
            s = time_s / length_s
            blend = s**3 * (10 - 15 * s + 6 * s**2)
            return Waypoint(
                start.position_m + blend * (end.position_m - start.position_m),
                start.turn_rad + blend * (end.turn_rad - start.turn_rad),
                start.opening + blend * (end.opening - start.opening),
            )
        time_s -= length_s
    return waypoints[-1]
