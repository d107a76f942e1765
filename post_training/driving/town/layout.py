"""What a map draws into a camera's picture: lanes, curbs, crossings, and boxes around cars.

Shape suffixes: P points of a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import Values
from nemo_cosmos.controls.camera import project_rays
from post_training.driving.town.plan import BLOCK_M, CAR, CAR_HEIGHT_M, LANE_M, STREET_M, Town

LINES = {"curb": (250, 240, 230), "middle": (250, 200, 40), "lane": (60, 140, 250)}
"""Colours, RGB."""
CAR_COLOR = (230, 60, 90)
_REACH_M = 60.0
_NEAR_M = 0.3
_CABIN_M = 0.5
_SHIFT = 3
_SUPERSAMPLE = 2
_EDGES = [(a, b) for a in range(8) for b in range(a) if bin(a ^ b).count("1") == 1]
_OFFSETS_M = (
    ("curb", STREET_M),
    ("curb", -STREET_M),
    ("middle", 0.0),
    ("lane", LANE_M),
    ("lane", -LANE_M),
)


def draw_layout(town: Town, camera: Values, height: int, width: int) -> NDArray[np.uint8]:
    """The layout ``(H, W, 3)``, uint8 RGB, black where the map says nothing.

    Args:
        town: the town.
        camera: the arrays of ``camera.npz`` for one frame.
        height: height of the picture in pixels.
        width: width of the picture in pixels.
    """
    large = np.zeros((height * _SUPERSAMPLE, width * _SUPERSAMPLE, 3), np.uint8)
    place_2 = np.asarray(camera["poses"][0][:2, 3])
    for line_P3, color in (*_street_lines(place_2), *_car_edges(town, place_2)):
        for piece_P2 in _projected(camera, line_P3):
            points = np.round(piece_P2 * _SUPERSAMPLE * (1 << _SHIFT)).astype(np.int32)
            cv2.polylines(large, [points], False, color, 2, cv2.LINE_AA, _SHIFT)
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)


def _street_lines(place_2: Array) -> Iterator[tuple[Array, tuple[int, int, int]]]:
    """Lines of all streets near a place; a crossing interrupts them."""
    nearest_2 = np.round(place_2 / BLOCK_M) * BLOCK_M
    way_P = np.linspace(STREET_M, BLOCK_M - STREET_M, 24)
    for along, street, block in product((0, 1), (-1, 0, 1), (-1, 0)):
        for name, across_m in _OFFSETS_M:
            line_P3 = np.zeros((len(way_P), 3))
            line_P3[:, along] = nearest_2[along] + block * BLOCK_M + way_P
            line_P3[:, 1 - along] = nearest_2[1 - along] + street * BLOCK_M + across_m
            yield line_P3, LINES[name]


def _car_edges(town: Town, place_2: Array) -> Iterator[tuple[Array, tuple[int, int, int]]]:
    """Edges of the boxes around cars near a place."""
    middle_N2 = (town.low_N3 + town.high_N3)[:, :2] / 2
    is_near_N = np.abs(middle_N2 - place_2).max(axis=1) < _REACH_M / 2
    is_body_N = (town.kind_N == CAR) & (town.low_N3[:, 2] < _CABIN_M)
    share_P1 = np.linspace(0, 1, 6)[:, None]
    for box in np.flatnonzero(is_near_N & is_body_N):
        low_3, high_3 = town.low_N3[box], town.high_N3[box]
        corners = np.array(list(product(*zip(low_3, (*high_3[:2], CAR_HEIGHT_M), strict=True))))
        for first, second in _EDGES:
            yield corners[first] * (1 - share_P1) + corners[second] * share_P1, CAR_COLOR


def _projected(camera: Values, line_P3: Array) -> Iterator[Array]:
    """The pieces of a line that are before the camera and near, in pixels."""
    pose_44 = np.asarray(camera["poses"][0])
    seen_P3 = (line_P3 - pose_44[:3, 3]) @ pose_44[:3, :3]
    is_seen_P = (seen_P3[:, 2] > _NEAR_M) & (np.linalg.norm(seen_P3, axis=1) < _REACH_M)
    if is_seen_P.sum() < 2:
        return
    points_P2 = project_rays(camera, 0, seen_P3)
    is_seen_P &= np.isfinite(points_P2).all(axis=1) & (np.abs(points_P2) < 4000).all(axis=1)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], is_seen_P.astype(int), [0]])))
    for begin, end in zip(ends[::2], ends[1::2], strict=True):
        if end - begin > 1:
            yield points_P2[begin:end]
