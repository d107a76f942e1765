"""A room with painted walls and blocks on its floor, and what rays meet in it.

World axes are OpenCV's of a level camera: x right, y down, z forward; the floor is ``y = 0``.

Shape suffixes: N rays.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SHADES = (0.82, 0.92, 0.62, 1.0, 0.74, 0.88)
"""Brightness of faces by where they point: -x, x, -y (up), y (down), -z, z; corners show by it."""
_PARALLEL = 1e-12
_KINDS = ("checks", "bricks", "dots", "waves")
"""No stripes: a camera that goes along them sees nothing change."""
PAINTS = ("patterns", "clouds")
"""What rooms are painted with: sharp patterns that repeat, or soft ones that nowhere do."""
_NUM_WAVES = 3
"""Waves of a cloud in each colour channel."""


@dataclass(frozen=True)
class Pattern:
    """What is painted on a face.

    Attributes:
        kind: one of checks, bricks, dots, waves and clouds.
        cell_m: length after which it repeats; of clouds, their shortest wave.
        offset_m: where it begins, along both sides of the face.
        colors: two colours, RGB from 0 to 1.
        waves: of clouds, for each wave of each channel, how often it repeats in a cell along both
            sides, and its phase.
    """

    kind: str
    cell_m: float
    offset_m: tuple[float, float]
    colors: tuple[tuple[float, float, float], tuple[float, float, float]]
    waves: tuple[tuple[float, float, float], ...] = ()

    def color(self, u_N: Floats, v_N: Floats) -> Floats:
        """Colours ``(N, 3)`` of points of the face.

        Args:
            u_N: metres along one side of the face.
            v_N: metres along the other.
        """
        u, v = (
            (x + offset) / self.cell_m for x, offset in zip((u_N, v_N), self.offset_m, strict=True)
        )
        if self.kind == "clouds":
            return self._clouds(u, v)
        if self.kind == "checks":
            is_second = (np.floor(u) + np.floor(v)) % 2 == 0
        elif self.kind == "bricks":
            is_second = (u + 0.8 * np.floor(v)) % 1.6 < 0.8
        elif self.kind == "dots":
            is_second = np.hypot(u % 1.5 - 0.75, v % 1.5 - 0.75) < 0.45
        else:
            is_second = np.sin(3 * u) + np.sin(3 * v + 1.3 * np.sin(u)) > 0
        return np.where(is_second[:, None], self.colors[1], self.colors[0])

    def _clouds(self, u_N: Floats, v_N: Floats) -> Floats:
        waves = [np.sin(2 * np.pi * (a * u_N + b * v_N) + phase) for a, b, phase in self.waves]
        sum_N3 = np.stack(waves, axis=1).reshape(len(u_N), 3, -1).sum(axis=2)
        first, second = np.array(self.colors)
        return np.asarray(first + (0.5 + 0.5 * np.tanh(sum_N3)) * (second - first))


@dataclass(frozen=True)
class Box:
    """A room, seen from within, or a block in it, seen from outside.

    Attributes:
        middle_m: its middle.
        half_m: half its sides.
        yaw_rad: how far it is turned about the vertical.
        faces: the paint of its faces: -x, x, -y, y, -z, z.
    """

    middle_m: tuple[float, float, float]
    half_m: tuple[float, float, float]
    yaw_rad: float
    faces: tuple[Pattern, ...]

    def own(self, vectors: Floats) -> Floats:
        """Vectors of the world in the box's own axes."""
        cosine, sine = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        turn_33 = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
        return np.asarray(vectors @ turn_33)


@dataclass(frozen=True)
class Room:
    """All there is to see.

    Attributes:
        shell: the room itself.
        blocks: what stands in it.
    """

    shell: Box
    blocks: tuple[Box, ...]

    def is_free(self, positions_m: Floats, margin_m: float) -> bool:
        """Whether a camera at all of these places ``(N, 3)`` keeps away from walls and blocks."""
        away = np.abs(self.shell.own(positions_m - self.shell.middle_m))
        if (away > np.array(self.shell.half_m) - margin_m).any():
            return False
        return not any(
            (np.abs(block.own(positions_m - block.middle_m)) < np.array(block.half_m) + margin_m)
            .all(axis=1)
            .any()
            for block in self.blocks
        )

    def look(self, origin_3: Floats, rays_N3: Floats) -> tuple[Floats, Floats]:
        """Colour ``(N, 3)`` from 0 to 1, and distance ``(N,)`` in lengths of the rays.

        Args:
            origin_3: where the rays begin, within the room.
            rays_N3: directions.
        """
        boxes = (self.shell, *self.blocks)
        distance_N, face_N = _meet(self.shell, origin_3, rays_N3, from_within=True)
        box_N = np.zeros(len(rays_N3), np.intp)
        length_N = np.linalg.norm(rays_N3, axis=1)
        for number, block in enumerate(self.blocks, 1):
            # Most rays pass far from most blocks: only those within its sphere's cone are followed.
            towards_3 = np.array(block.middle_m) - origin_3
            away = float(np.linalg.norm(towards_3))
            sine = min(1.0, float(np.linalg.norm(block.half_m)) / away)
            asked = np.flatnonzero(rays_N3 @ towards_3 > np.sqrt(1 - sine**2) * away * length_N)
            near, side = _meet(block, origin_3, rays_N3[asked], from_within=False)
            is_nearer = near < distance_N[asked]
            nearer = asked[is_nearer]
            distance_N[nearer], face_N[nearer] = near[is_nearer], side[is_nearer]
            box_N[nearer] = number
        color_N3 = np.empty_like(rays_N3)
        points_N3 = origin_3 + distance_N[:, None] * rays_N3
        paint_N = 6 * box_N + face_N
        for paint in np.flatnonzero(np.bincount(paint_N)).tolist():
            (number, face), is_face_N = divmod(paint, 6), paint_N == paint
            own_N3 = boxes[number].own(points_N3[is_face_N] - boxes[number].middle_m)
            u, v = (own_N3[:, axis] for axis in _ACROSS[face // 2])
            # A wall of the room points inwards.
            shade = _SHADES[face if number else face ^ 1]
            color_N3[is_face_N] = shade * boxes[number].faces[face].color(u, v)
        return color_N3, distance_N


def draw_room(random: np.random.Generator, paint: str = "patterns") -> Room:
    """Draw a room: 4 to 6 metres wide and deep, with four to six blocks along its walls.

    Args:
        random: source of chance.
        paint: one of :data:`PAINTS`.
    """
    wall_m, block_m = ((0.4, 0.8), (0.15, 0.35)) if paint == "patterns" else ((1, 1.6), (0.5, 0.8))
    width, depth = random.uniform(4, 6, 2)
    height = random.uniform(2.6, 3.2)
    shell = Box(
        (0.0, -height / 2, 0.0),
        (width / 2, height / 2, depth / 2),
        0.0,
        tuple(_pattern(random, paint, *wall_m) for _ in range(6)),
    )
    blocks = []
    for _ in range(random.integers(4, 7)):
        half = random.uniform([0.2, 0.2, 0.2], [0.5, 0.8, 0.5])
        angle, away = random.uniform(0, 2 * np.pi), random.uniform(1.2, 1.9)
        blocks.append(
            Box(
                (away * np.sin(angle), -half[1], away * np.cos(angle)),
                (half[0], half[1], half[2]),
                random.uniform(0, np.pi / 2),
                tuple(_pattern(random, paint, *block_m) for _ in range(6)),
            )
        )
    return Room(shell, tuple(blocks))


def _pattern(random: np.random.Generator, paint: str, least_m: float, most_m: float) -> Pattern:
    hue = random.uniform()
    other = hue + random.uniform(0.15, 0.85)
    light, dark = random.uniform(0.75, 1.0), random.uniform(0.3, 0.6)
    first, second = (
        colorsys.hsv_to_rgb(tone % 1, random.uniform(0.25, 0.85), value)
        for tone, value in ((hue, light), (other, dark))
    )
    pattern = Pattern(
        str(random.choice(_KINDS)),
        random.uniform(least_m, most_m),
        (random.uniform(0, 5), random.uniform(0, 5)),
        (first, second),
    )
    if paint == "patterns":
        return pattern
    waves = []
    for _ in range(3 * _NUM_WAVES):
        angle, often = random.uniform(0, 2 * np.pi), random.uniform(0.4, 1.0)
        phase = random.uniform(0, 2 * np.pi)
        waves.append((often * np.cos(angle), often * np.sin(angle), phase))
    return replace(pattern, kind="clouds", waves=tuple(waves))


def _meet(
    box: Box, origin_3: Floats, rays_N3: Floats, *, from_within: bool
) -> tuple[Floats, NDArray[np.intp]]:
    """Distance ``(N,)``, infinite for a miss, and number of the face where rays meet a box."""
    start_3 = box.own(origin_3 - np.array(box.middle_m))
    # Axes first: sums and extremes along a short last axis are several times slower.
    along_3N = np.ascontiguousarray(box.own(rays_N3).T)
    # A ray along a face would divide by zero, and its infinities would cancel.
    along_3N[np.abs(along_3N) < _PARALLEL] = _PARALLEL
    middle_3N = -start_3[:, None] / along_3N
    reach_3N = np.array(box.half_m)[:, None] / np.abs(along_3N)
    leave_N = (middle_3N + reach_3N).min(axis=0)
    if from_within:
        distance_N, axis_N = leave_N, (middle_3N + reach_3N).argmin(axis=0)
    else:
        distance_N = (middle_3N - reach_3N).max(axis=0)
        axis_N = (middle_3N - reach_3N).argmax(axis=0)
        distance_N[~((distance_N <= leave_N) & (distance_N > 0))] = np.inf
    along_N = np.take_along_axis(along_3N, axis_N[None], 0)[0]
    # Rays that go up an axis leave by its far face, and enter by its near one.
    return distance_N, 2 * axis_N + ((along_N > 0) == from_within)


_ACROSS: Sequence[tuple[int, int]] = ((2, 1), (0, 2), (0, 1))
"""The two axes along the faces that lie across each axis."""
