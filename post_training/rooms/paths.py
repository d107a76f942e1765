"""Paths of a camera through a room: one move, two in a row, or two at once."""

from __future__ import annotations

import math

import numpy as np

from post_training.camera.moves import Matrix, Move, camera_path
from post_training.rooms.scene import Room

KINDS = ("pan", "tilt", "orbit", "dolly", "truck", "mixed", "pan", "mixed")
"""Kinds of paths, which take turns; two moves at once, or one after the other, are ``mixed``."""
MARGIN_M = 0.35
FOV_X_DEG = 60.0

_AMOUNTS = {
    "pan": (8, 26),
    "tilt": (6, 16),
    "orbit": (10, 28),
    "dolly": (0.3, 0.9),
    "truck": (0.25, 0.7),
}
_TRIALS = 200


def draw_path(random: np.random.Generator, room: Room, kind: str, num_frames: int) -> Matrix:
    """Draw camera-to-world matrices ``(T, 4, 4)`` that keep away from walls and blocks.

    Args:
        random: source of chance.
        room: the room.
        kind: one of :data:`KINDS`.
        num_frames: T.
    """
    for _ in range(_TRIALS):
        moves, distance_m = _moves(random, kind), random.uniform(1.2, 2.2)
        poses_T44 = _start(random) @ camera_path(moves, num_frames, distance_m)
        if room.is_free(poses_T44[:, :3, 3], MARGIN_M):
            return poses_T44
    # The middle of every room is free, and so is a turn about it.
    return _start(random, reach_m=0.0) @ camera_path([Move({"pan": 15.0})], num_frames)


def _start(random: np.random.Generator, reach_m: float = 1.0) -> Matrix:
    """Where a path begins: near the middle, at the height of a person's chest to eyes, level."""
    yaw, pitch = random.uniform(0, 2 * np.pi), math.radians(random.uniform(-4, 12))
    turn_33 = np.array(
        [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    )
    nod_33 = np.array(
        [[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]]
    )
    pose_44 = np.eye(4)
    pose_44[:3, :3] = turn_33 @ nod_33
    x, z = reach_m * random.uniform(-1, 1, 2)
    pose_44[:3, 3] = x, -random.uniform(1.1, 1.7), z
    return pose_44


def _moves(random: np.random.Generator, kind: str) -> list[Move]:
    if kind != "mixed":
        return [Move({kind: _amount(random, kind)})]
    names = random.choice(["pan", "tilt", "dolly", "truck"], size=2, replace=False)
    if random.uniform() < 0.5:
        return [Move({str(name): 0.7 * _amount(random, str(name)) for name in names})]
    return [Move({str(name): 0.6 * _amount(random, str(name))}) for name in names]


def _amount(random: np.random.Generator, name: str) -> float:
    return float(random.choice([-1, 1]) * random.uniform(*_AMOUNTS[name]))
