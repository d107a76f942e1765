"""The plan of a town: a grid of streets, and boxes beside them. Metres; x, y, z with z up.

Streets lie on a grid of :data:`BLOCK_M`. Everything that stands is a box along the grid, which rays
meet exactly and quickly: houses with windows, parked cars of two boxes, trees of two.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array

BLOCK_M = 48.0
"""From the middle of a street to that of the next."""
STREET_M = 6.5
"""From the middle of a street to its curb."""
WALK_M = 10.0
"""From the middle of a street to the far edge of its pavement."""
LANE_M = 2.2
"""From the middle of a street to that of its right lane."""
TEXEL_M = 0.1
CAR_HEIGHT_M = 1.4
_NUM_BLOCKS = 3  # in each direction: farther houses are hidden, or a pixel wide

HOUSE, CAR, TREE = 0, 1, 2

MOODS = {
    "on a clear day": ((0.52, 0.72, 0.94), (0.86, 0.92, 0.98), 1.0),
    "on a grey day": ((0.66, 0.69, 0.73), (0.80, 0.82, 0.84), 0.85),
    "in the evening": ((0.50, 0.45, 0.62), (0.97, 0.72, 0.48), 0.75),
}
"""Words, colours of the sky above and at the horizon, and the light."""
STYLES = {
    "brick": ((0.62, 0.32, 0.25), (0.70, 0.42, 0.30), (0.55, 0.36, 0.32)),
    "pale": ((0.85, 0.80, 0.68), (0.78, 0.78, 0.80), (0.90, 0.86, 0.80)),
    "colourful": ((0.85, 0.65, 0.25), (0.35, 0.55, 0.70), (0.75, 0.40, 0.45), (0.45, 0.65, 0.45)),
}
"""Colours of houses."""
_CAR_COLORS = (
    (0.80, 0.12, 0.10),
    (0.12, 0.25, 0.65),
    (0.92, 0.92, 0.92),
    (0.10, 0.10, 0.12),
    (0.85, 0.70, 0.15),
    (0.35, 0.37, 0.40),
)


Box = tuple[Array, Array, tuple[float, ...], int]
"""Lowest and highest corner, colour and kind."""


@dataclass(frozen=True)
class Town:
    """A town, the same for the same seed.

    Attributes:
        mood: one of :data:`MOODS`.
        style: one of :data:`STYLES`.
        low_N3: the lowest corner of each box.
        high_N3: the highest corner of each box.
        color_N3: its colour, 0 to 1.
        kind_N: :data:`HOUSE`, :data:`CAR` or :data:`TREE`.
        ground: the ground of one block around a crossing, as pictures of ever larger texels.
    """

    mood: str
    style: str
    low_N3: Array
    high_N3: Array
    color_N3: Array
    kind_N: Array
    ground: tuple[NDArray[np.float32], ...]


def plan_town(random: np.random.Generator) -> Town:
    """Draw a town.

    Args:
        random: the source of chance.
    """
    mood, style = str(random.choice(list(MOODS))), str(random.choice(list(STYLES)))
    boxes: list[Box] = []
    for column in range(-_NUM_BLOCKS, _NUM_BLOCKS):
        for row in range(-_NUM_BLOCKS, _NUM_BLOCKS):
            corner = np.array([column, row]) * BLOCK_M + WALK_M
            boxes += _houses(random, corner, STYLES[style])
    for street in range(-_NUM_BLOCKS, _NUM_BLOCKS + 1):
        for along in (0, 1):
            boxes += _curb(random, street * BLOCK_M, along)
    low, high, color, kind = zip(*boxes, strict=True)
    return Town(
        mood,
        style,
        np.array(low, np.float32),
        np.array(high, np.float32),
        np.array(color, np.float32),
        np.array(kind),
        _draw_ground(random),
    )


def _houses(
    random: np.random.Generator, corner_2: Array, colors: tuple[tuple[float, ...], ...]
) -> list[Box]:
    """Four houses in the corners of a block, with yards between."""
    side_m = BLOCK_M - 2 * WALK_M
    found: list[Box] = []
    for far_side in ((0, 0), (0, 1), (1, 0), (1, 1)):
        width_2 = random.uniform(0.36, 0.46, 2) * side_m
        setback_2 = random.uniform(0.0, 1.5, 2)
        low_2 = corner_2 + np.where(far_side, side_m - width_2 - setback_2, setback_2)
        color = np.array(colors[random.integers(len(colors))]) + random.normal(0, 0.03, 3)
        low_3 = np.array([*low_2, 0.0])
        high_3 = np.array([*(low_2 + width_2), random.uniform(5, 16)])
        found.append((low_3, high_3, tuple(np.clip(color, 0.05, 0.95)), HOUSE))
    return found


def _curb(random: np.random.Generator, middle: float, along: int) -> list[Box]:
    """Parked cars and trees on both sides of one street.

    Args:
        random: the source of chance.
        middle: where the street's middle is on the axis across it.
        along: the axis that it leads along.
    """
    found: list[Box] = []

    def box(
        at_m: float, across_m: float, half_m: tuple[float, float], heights_m: tuple[float, float]
    ) -> tuple[Array, Array]:
        low_3, high_3 = np.zeros(3), np.zeros(3)
        low_3[along], high_3[along] = at_m - half_m[0], at_m + half_m[0]
        low_3[1 - along], high_3[1 - along] = across_m - half_m[1], across_m + half_m[1]
        low_3[2], high_3[2] = heights_m
        return low_3, high_3

    reach = _NUM_BLOCKS * BLOCK_M
    for side in (-1, 1):
        for at in np.arange(-reach, reach, 7.0):
            place = at + random.uniform(-0.8, 0.8)
            from_crossing = abs((place + BLOCK_M / 2) % BLOCK_M - BLOCK_M / 2)
            if from_crossing > STREET_M + 5 and random.random() < 0.45:
                color = _CAR_COLORS[random.integers(len(_CAR_COLORS))]
                across = middle + side * (STREET_M - 1.2)
                found.append((*box(place, across, (2.1, 0.85), (0.25, 0.85)), color, CAR))
                glass = (0.16, 0.19, 0.23)
                found.append(
                    (*box(place - 0.2, across, (1.2, 0.75), (0.85, CAR_HEIGHT_M)), glass, CAR)
                )
            elif from_crossing > WALK_M + 1 and random.random() < 0.35:
                across = middle + side * (STREET_M + 1.2)
                found.append(
                    (*box(place, across, (0.15, 0.15), (0, 2.4)), (0.33, 0.24, 0.16), TREE)
                )
                crown, green = random.uniform(0.9, 1.4), random.uniform(0.30, 0.48)
                heights = (2.2, 2.2 + 2 * crown)
                found.append(
                    (*box(place, across, (crown, crown), heights), (0.16, green, 0.13), TREE)
                )
    return found


def _draw_ground(random: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
    """One block of ground with a crossing in its middle, RGB from 0 to 1; it repeats for ever."""
    side = round(BLOCK_M / TEXEL_M)
    place = (np.arange(side) + 0.5) * TEXEL_M - BLOCK_M / 2
    x, y = np.meshgrid(place, place, indexing="ij")
    on_x, on_y = np.abs(y) < STREET_M, np.abs(x) < STREET_M  # streets along x and along y
    ground = np.empty((side, side, 3), np.float32)
    ground[:] = (0.36, 0.46, 0.27)  # yards
    paved = (np.abs(x) < WALK_M) | (np.abs(y) < WALK_M)
    ground[paved] = (0.62, 0.60, 0.57)
    joints = (np.abs(x % 2) < 0.12) | (np.abs(y % 2) < 0.12)
    ground[paved & joints] = (0.50, 0.49, 0.47)
    street = on_x | on_y
    ground[street] = (0.30, 0.30, 0.32)
    white, yellow = (0.92, 0.92, 0.90), (0.88, 0.72, 0.15)
    for along, across in ((x, y), (y, x)):
        own = (np.abs(across) < STREET_M) & (np.abs(along) > STREET_M)
        lined = own & (np.abs(along) > STREET_M + 4.5)
        ground[lined & (np.abs(across) < 0.16) & ((along % 6) < 3.2)] = yellow
        ground[lined & (np.abs(np.abs(across) - 4.2) < 0.12)] = white
        crossing = own & (np.abs(np.abs(along) - STREET_M - 2.0) < 1.4)
        ground[crossing & ((across % 1.3) < 0.65)] = white
        stop = own & (np.abs(np.abs(along) - STREET_M - 4.0) < 0.25)
        ground[stop & (np.sign(across) == np.sign(along) * (1 if along is y else -1))] = white
    for texels, strength in ((4, 0.035), (14, 0.05)):
        coarse = random.normal(0, strength, (side // texels, side // texels)).astype(np.float32)
        ground += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)[..., None]
    levels = [np.clip(ground, 0, 1).astype(np.float32)]
    while len(levels) < 5:  # texels of 0.1 to 1.6 m
        half = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA))
    return tuple(levels)
