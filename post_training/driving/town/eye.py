"""What a camera in a town sees, by a ray for each of four samples of a pixel.

Any lens of the camera signal is drawn, pinhole or f-theta, since rays are all that it decides.

Shape suffixes: H W rows and columns of samples; R rays; 3 axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import Values
from nemo_cosmos.controls.camera import pixel_rays
from post_training.driving.town.plan import BLOCK_M, HOUSE, MOODS, TEXEL_M, TREE, Town

Floats = NDArray[np.float32]

SUPERSAMPLE = 2
_SUN = np.array([0.45, -0.3, 0.84], np.float32)
SKY_M = 5000.0
"""The distance of the sky."""
_FAR_M = 110.0
_SMALLEST_SAMPLES = 2.5
"""A box whose radius is seen under fewer samples is left out."""
_HAZE_M = 160.0


@dataclass(frozen=True)
class Sight:
    """What is seen at one moment.

    Attributes:
        picture_HWC: uint8 RGB.
        depth_HW: metres along the camera's axis to what each pixel shows; :data:`SKY_M` for the
            sky, less beside the axis.
    """

    picture_HWC: NDArray[np.uint8]
    depth_HW: Floats


class Eye:
    """One camera's rays, which stay the same while it moves.

    Args:
        values: the arrays of ``camera.npz`` for one frame.
        height: height of the pictures in pixels.
        width: width of the pictures in pixels.
    """

    def __init__(self, values: Values, height: int, width: int) -> None:
        rows, columns = height * SUPERSAMPLE, width * SUPERSAMPLE
        x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
        points = np.stack([x.ravel(), y.ravel()], axis=1) / SUPERSAMPLE
        self._rays_R3 = pixel_rays(values, 0, points).astype(np.float32)
        self._along_axis_R = (self._rays_R3[:, 2] / np.linalg.norm(self._rays_R3, axis=1)).astype(
            np.float32
        )
        self._shape = (rows, columns)
        self._output = (width, height)
        # A sample's width in radians decides which texels of the ground it takes.
        self._sample_rad = float(1 / values["intrinsics"][0][0, 0] / SUPERSAMPLE)

    def look(self, town: Town, pose_44: Array) -> Sight:
        """What the camera sees from a place.

        Args:
            town: the town.
            pose_44: camera to world.
        """
        origin_3 = pose_44[:3, 3].astype(np.float32)
        rays_R3 = self._rays_R3 @ pose_44[:3, :3].T.astype(np.float32)
        top, horizon, light = (np.array(each, np.float32) for each in MOODS[town.mood])
        rise_R1 = np.clip(rays_R3[:, 2:] * 2.5, 0, 1)
        color_R3 = horizon + (top - horizon) * rise_R1
        depth_R = np.full(len(rays_R3), np.inf, np.float32)
        self._draw_ground(town, origin_3, rays_R3, depth_R, color_R3, light)
        for box in self._boxes_ahead(town, origin_3, rays_R3):
            _draw_box(town, int(box), origin_3, rays_R3, depth_R, color_R3, light)
        seen = np.isfinite(depth_R)
        haze_R1 = 1 - np.exp(-np.minimum(depth_R[seen], 1e4)[:, None] / _HAZE_M)
        color_R3[seen] += haze_R1**2 * (horizon - color_R3[seen])
        picture = np.clip(color_R3, 0, 1).reshape(*self._shape, 3)
        small = cv2.resize(picture, self._output, interpolation=cv2.INTER_AREA)
        depth_m = np.minimum(depth_R, SKY_M) * self._along_axis_R
        depth_HW = depth_m.reshape(self._shape)[::SUPERSAMPLE, ::SUPERSAMPLE]
        return Sight(np.round(small * 255).astype(np.uint8), depth_HW)

    def _draw_ground(
        self,
        town: Town,
        origin_3: Floats,
        rays_R3: Floats,
        depth_R: Floats,
        color_R3: Floats,
        light: Floats,
    ) -> None:
        down = np.flatnonzero(rays_R3[:, 2] < -1e-3)
        rays = rays_R3[down]
        depth = -origin_3[2] / rays[:, 2]
        points = origin_3[:2] + depth[:, None] * rays[:, :2]
        # The sample's footprint along the ground, which lies aslant.
        footprint = depth * self._sample_rad / np.sqrt(np.maximum(-rays[:, 2], 1e-3))
        level = np.clip(np.log2(footprint / TEXEL_M), 0, len(town.ground) - 1).astype(int)
        for number, picture in enumerate(town.ground):
            mine = level == number
            if not mine.any():
                continue
            color_R3[down[mine]] = light * _sample(picture, points[mine] / BLOCK_M + 0.5)
        depth_R[down] = depth

    def _boxes_ahead(self, town: Town, origin_3: Floats, rays_R3: Floats) -> Array:
        """Numbers of the boxes that the camera can see at all."""
        middle_N3 = (town.low_N3 + town.high_N3) / 2 - origin_3
        radius_N = np.linalg.norm(town.high_N3 - town.low_N3, axis=1) / 2
        distance_N = np.linalg.norm(middle_N3, axis=1)
        axis_3 = rays_R3.mean(axis=0)
        axis_3 /= np.linalg.norm(axis_3)
        spread = np.arccos(np.clip((rays_R3 @ axis_3).min(), -1, 1))
        angle_N = np.arccos(np.clip(middle_N3 @ axis_3 / np.maximum(distance_N, 1e-6), -1, 1))
        reach_N = np.arcsin(np.clip(radius_N / np.maximum(distance_N, 1e-6), 0, 1))
        is_near = (distance_N < radius_N) | (angle_N - reach_N < spread)
        is_large = radius_N > _SMALLEST_SAMPLES * self._sample_rad * distance_N
        boxes = np.flatnonzero(is_near & is_large & (distance_N - radius_N < _FAR_M))
        # From near to far, so that what is hidden costs little.
        return boxes[np.argsort(distance_N[boxes] - radius_N[boxes])]


def _sample(picture: Floats, places_R2: Floats) -> Floats:
    """Colours between the texels of a picture that repeats; its rows lead along x.

    Args:
        picture: square, RGB.
        places_R2: places in sides of the picture.
    """
    side = len(picture)
    texels = places_R2 * side - 0.5
    first = np.floor(texels)
    share = (texels - first).astype(np.float32)
    (row, column), (down, right) = (first.astype(int) % side).T, share.T[..., None]
    next_row, next_column = (row + 1) % side, (column + 1) % side
    upper = picture[row, column] * (1 - right) + picture[row, next_column] * right
    lower = picture[next_row, column] * (1 - right) + picture[next_row, next_column] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _draw_box(
    town: Town,
    box: int,
    origin_3: Floats,
    rays_R3: Floats,
    depth_R: Floats,
    color_R3: Floats,
    light: Floats,
) -> None:
    """Draw a box wherever it is nearer than what is there."""
    low_3, high_3 = town.low_N3[box], town.high_N3[box]
    middle_3 = (low_3 + high_3) / 2 - origin_3
    distance = float(np.linalg.norm(middle_3))
    radius = float(np.linalg.norm(high_3 - low_3)) / 2
    near: Any = slice(None)
    if distance > radius:  # only rays inside the cone around its sphere can meet it
        cosine = np.sqrt(1 - (radius / distance) ** 2)
        is_inside_R = rays_R3 @ (middle_3 / distance) > cosine
        near = np.flatnonzero(is_inside_R & (depth_R > distance - radius))
    rays = rays_R3[near]
    if not len(rays):
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / rays
        one, other = (low_3 - origin_3) * inverse, (high_3 - origin_3) * inverse
    enter = np.minimum(one, other)
    axis = enter.argmax(axis=1)
    depth = enter.max(axis=1)
    hit = (depth <= np.maximum(one, other).min(axis=1)) & (depth > 0.05)
    hit &= depth < depth_R[near]
    if not hit.any():
        return
    where = (np.arange(len(rays_R3)) if isinstance(near, slice) else near)[hit]
    depth, rays, axis = depth[hit], rays[hit], axis[hit]
    normal_sign = -np.sign(rays[np.arange(len(axis)), axis])
    shade = 0.62 + 0.38 * np.clip(normal_sign * _SUN[axis], 0, 1)
    color = np.repeat(town.color_N3[box][None], len(rays), axis=0)
    points = origin_3 + depth[:, None] * rays
    if town.kind_N[box] == HOUSE:
        _paint_house(points, axis, low_3, high_3, color)
    elif town.kind_N[box] == TREE:
        blotch = np.sin(points @ np.array([5.1, 3.7, 4.3], np.float32)) > 0.3
        color[blotch] *= 0.8
    color_R3[where] = color * shade[:, None] * light
    depth_R[where] = depth


def _paint_house(points: Floats, axis: Array, low_3: Floats, high_3: Floats, color: Floats) -> None:
    """Windows in rows, a darker ground floor, and a roof."""
    is_roof = axis == 2
    along = np.where(axis == 0, points[:, 1] - low_3[1], points[:, 0] - low_3[0])
    up = points[:, 2]
    # Large windows of little contrast: finer ones are lost in small pictures.
    is_window = ((along % 4.0) > 1.0) & ((along % 4.0) < 3.2)
    is_window &= ((up % 4.0) > 1.4) & ((up % 4.0) < 3.2) & (up < high_3[2] - 0.6)
    color[is_window & ~is_roof] *= 0.62
    color[(up < 0.6) & ~is_roof] *= 0.6
    color[is_roof] = (0.45, 0.30, 0.26)
