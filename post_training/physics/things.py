"""What a scenario is made of: things that move in the picture's plane, and what stands still.

World axes: x leads to the right of the picture, y away from the camera, z up; the floor is at 0.
Things move in the plane ``y = 0`` and turn about y, clockwise as seen. Metres, radians, seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.14, 0.12),
    "yellow": (0.96, 0.78, 0.08),
    "green": (0.13, 0.62, 0.22),
    "blue": (0.13, 0.36, 0.92),
    "purple": (0.72, 0.22, 0.80),
}
"""Vivid, and far from each other in hue: objects are found again by it."""

DENSITY_KG_M3 = 400.0

Shape = Literal["ball", "disc", "block"]


@dataclass(frozen=True)
class Thing:
    """An object that moves.

    Attributes:
        shape: ``ball``, ``disc`` (a wheel on its rim) or ``block``.
        color: a key of :data:`COLORS`.
        half_m: half its sides along x, y and z; all are the radius of a ball.
        x_m: centre at the start.
        z_m: centre at the start.
        turn_rad: rotation at the start.
        speed_m_s: velocity at the start along x and z.
        spin_rad_s: angular velocity at the start.
        turns: whether it can turn at all.
    """

    shape: Shape
    color: str
    half_m: tuple[float, float, float]
    x_m: float
    z_m: float
    turn_rad: float = 0.0
    speed_m_s: tuple[float, float] = (0.0, 0.0)
    spin_rad_s: float = 0.0
    turns: bool = True

    @property
    def words(self) -> str:
        """What a person calls it."""
        return f"{self.color} {self.shape}"

    @property
    def mass_kg(self) -> float:
        """Its volume times :data:`DENSITY_KG_M3`."""
        x, y, z = self.half_m
        volumes = {
            "ball": 4 / 3 * np.pi * x**3,
            "disc": np.pi * x**2 * 2 * y,
            "block": 8 * x * y * z,
        }
        return float(volumes[self.shape] * DENSITY_KG_M3)


@dataclass(frozen=True)
class Ramp:
    """A slope that falls to the right and ends on the floor.

    Attributes:
        foot_x_m: where it meets the floor.
        angle_rad: its slope.
        length_m: length of the slope.
    """

    foot_x_m: float
    angle_rad: float
    length_m: float

    def point(self, along_m: float, above_m: float) -> tuple[float, float]:
        """A point above the slope: ``along_m`` up from its foot and ``above_m`` off its surface."""
        sine, cosine = np.sin(self.angle_rad), np.cos(self.angle_rad)
        return (
            float(self.foot_x_m - along_m * cosine + above_m * sine),
            float(along_m * sine + above_m * cosine),
        )


@dataclass(frozen=True)
class Hanging:
    """A thing that hangs on a rod.

    Attributes:
        x_m: the pivot.
        z_m: the pivot.
        length_m: distance from the pivot to the thing's centre.
        angle_rad: from straight down, to the right, at the start.
        spin_rad_s: of the rod at the start, to the right.
    """

    x_m: float
    z_m: float
    length_m: float
    angle_rad: float
    spin_rad_s: float = 0.0


@dataclass(frozen=True)
class Pusher:
    """A paddle that pushes the first thing to the right and stops.

    Attributes:
        x_m: its right face at the start.
        speed_m_s: its speed at the height of the push.
        way_m: how far it goes.
    """

    x_m: float
    speed_m_s: float
    way_m: float


@dataclass(frozen=True)
class Setup:
    """One recording's scene and words.

    Attributes:
        scenario: a key of :data:`scenarios.SCENARIOS`.
        caption: what happens, in words.
        things: the objects.
        bounce: share of its speed that a thing keeps when it hits something.
        friction: coefficient of sliding friction.
        ramp: a slope.
        hanging: how the first thing hangs.
        pusher: a paddle.
        is_mirrored: whether all is seen with left and right exchanged.
        panel: whether a board hides a part of the way.
    """

    scenario: str
    caption: str
    things: tuple[Thing, ...]
    bounce: float = 0.2
    friction: float = 0.4
    ramp: Ramp | None = None
    hanging: Hanging | None = None
    pusher: Pusher | None = None
    is_mirrored: bool = False
    panel: bool = False

    def words(self) -> str:
        """The caption, with left and right as they are seen."""
        left, right = ("right", "left") if self.is_mirrored else ("left", "right")
        hidden = " A grey board hides a part of the way." if self.panel else ""
        return self.caption.format(left=left, right=right) + hidden


@dataclass(frozen=True)
class Motion:
    """How the things of a setup move, T frames of N things.

    Attributes:
        qpos_TQ: the simulator's state at each frame.
        position_TN3: centres.
        velocity_TN3: velocities of the centres.
        rotation_TN: turns since the start of the world, clockwise.
        energy_TN3: kinetic of the motion, kinetic of the rotation, potential above the floor.
        touches_TN: whether floor or ramp carries it.
    """

    qpos_TQ: np.ndarray
    position_TN3: np.ndarray
    velocity_TN3: np.ndarray
    rotation_TN: np.ndarray
    energy_TN3: np.ndarray
    touches_TN: np.ndarray


def draw_colors(rng: np.random.Generator, num: int) -> list[str]:
    """Different colours."""
    return [str(color) for color in rng.permutation(list(COLORS))[:num]]


def mirrored(setup: Setup) -> Setup:
    """The same scene with left and right exchanged."""
    things = tuple(
        replace(
            thing,
            x_m=-thing.x_m,
            turn_rad=-thing.turn_rad,
            speed_m_s=(-thing.speed_m_s[0], thing.speed_m_s[1]),
            spin_rad_s=-thing.spin_rad_s,
        )
        for thing in setup.things
    )
    hanging = setup.hanging
    if hanging is not None:
        hanging = replace(
            hanging,
            x_m=-hanging.x_m,
            angle_rad=-hanging.angle_rad,
            spin_rad_s=-hanging.spin_rad_s,
        )
    # Ramp and pusher are turned round where they are built.
    return replace(setup, things=things, hanging=hanging, is_mirrored=not setup.is_mirrored)
