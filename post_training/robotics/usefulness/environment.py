"""The table with the robot as a policy or a planner meets it, simulated or imagined.

Both kinds answer chunks of actions with pictures. What they keep between two chunks is in a
:class:`Moment`, not in the environment: a planner tries many actions from the same moment.

Shape suffixes: N rollouts, K actions of a chunk, A numbers of an action, H height, W width, C
colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from post_training.robotics.simulation.scene import Block


@dataclass(frozen=True)
class Form:
    """What both environments agree on.

    Attributes:
        num_actions: actions K of a chunk; it shows as many new frames.
        height: height of the pictures in pixels.
        width: width of the pictures in pixels.
        fps: frames, and actions, per second.
    """

    num_actions: int = 16
    height: int = 96
    width: int = 128
    fps: float = 10.0


@dataclass(frozen=True)
class Scene:
    """Where an episode begins.

    Attributes:
        number: its number; with the seed it determines everything else.
        blocks: the blocks on the table; the first is the one that a task names.
        gripper_m: the gripper's true position.
        opening: opening of the fingers.
        frame_HWC: what the camera sees.
        kept: what the simulator needs to begin here.
    """

    number: int
    blocks: Sequence[Block]
    gripper_m: np.ndarray
    opening: float
    frame_HWC: np.ndarray
    kept: Any


@dataclass(frozen=True)
class Moment:
    """Where an episode is between two chunks.

    Attributes:
        frame_HWC: what the camera sees.
        num_chunks: chunks so far.
        kept: what the environment needs to go on from here.
    """

    frame_HWC: np.ndarray
    num_chunks: int = 0
    kept: Any = None


class Environment(Protocol):
    """A table with a robot that does what it is told."""

    form: Form

    def begin(self, scene: Scene) -> Moment:
        """Return an episode's first moment."""
        ...

    def step(
        self,
        moments: Sequence[Moment],
        actions_NKA: np.ndarray,
        seed: int = 0,
        every_frame: bool = True,
    ) -> tuple[list[Moment], np.ndarray]:
        """Carry out a chunk of actions from each moment.

        Args:
            moments: N moments, which may be the same.
            actions_NKA: what the robot is told, as episodes store it.
            seed: seed of what is left to chance; one for all, so that only actions differ.
            every_frame: whether to return all new frames, or the last of each chunk alone.

        Returns:
            the moments after it, and the new frames, uint8 (N, K, H, W, C) or (N, 1, H, W, C).
        """
        ...
