"""A textured room seen by any camera of the camera signal: exact geometry, without a renderer.

Each pixel's ray is followed to the nearest of some rectangles with noise on them, so that pictures
of several cameras show one rigid world, through any lens.

Shape suffixes: H height, W width, N rays, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import Values
from nemo_cosmos.controls.camera import pixel_rays

_PIXELS_A_METRE = 48

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Wall:
    """A rectangle with a texture.

    Attributes:
        corner_3: one corner in metres.
        first_3: the side from there along which the texture's columns run.
        second_3: the side along which its rows run, at a right angle to the first.
        seed: seed of its texture.
    """

    corner_3: tuple[float, float, float]
    first_3: tuple[float, float, float]
    second_3: tuple[float, float, float]
    seed: int

    def texture(self) -> Frames:
        """Noise of several scales, ``(rows, columns, 3)`` uint8."""
        generator = np.random.default_rng(self.seed)
        size = [
            max(8, round(float(np.linalg.norm(side)) * _PIXELS_A_METRE))
            for side in (self.first_3, self.second_3)
        ]
        picture = np.zeros((size[1], size[0], 3), np.float32)
        for cell in (3, 8, 24):
            shape = (max(2, size[1] // cell), max(2, size[0] // cell), 3)
            noise = generator.uniform(0, 85, shape).astype(np.float32)
            picture += cv2.resize(noise, (size[0], size[1]), interpolation=cv2.INTER_CUBIC)
        return np.clip(picture, 0, 255).astype(np.uint8)


#: A room of 8 x 3 x 8 m around the origin (y is down) with four boxes' fronts in it.
ROOM = (
    Wall((-4, -1.5, 4), (8, 0, 0), (0, 3, 0), 1),
    Wall((-4, -1.5, -4), (8, 0, 0), (0, 3, 0), 2),
    Wall((-4, -1.5, -4), (0, 0, 8), (0, 3, 0), 3),
    Wall((4, -1.5, -4), (0, 0, 8), (0, 3, 0), 4),
    Wall((-4, 1.5, -4), (8, 0, 0), (0, 0, 8), 5),
    Wall((-4, -1.5, -4), (8, 0, 0), (0, 0, 8), 6),
    Wall((-1.6, 0.2, 2.2), (1.0, 0, 0), (0, 1.3, 0), 7),
    Wall((0.5, -0.3, 2.8), (0.9, 0, 0), (0, 1.8, 0), 8),
    Wall((1.8, 0.4, 1.4), (0.7, 0, 0.5), (0, 1.1, 0), 9),
    Wall((-2.8, -0.2, 1.2), (0.6, 0, -0.4), (0, 1.7, 0), 10),
)


def draw(values: Values, walls: Sequence[Wall] = ROOM) -> Frames:
    """What a camera sees, uint8 RGB ``(T, H, W, 3)``.

    Args:
        values: the arrays of its ``camera.npz``.
        walls: what there is to see.
    """
    height, width = (int(side) for side in values["size"])
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels_N2 = np.stack([columns.ravel(), rows.ravel()], axis=1)
    textures = [wall.texture() for wall in walls]
    frames = []
    for frame, pose_44 in enumerate(values["poses"]):
        rays_N3 = pixel_rays(values, frame, pixels_N2) @ pose_44[:3, :3].T
        colour_N3 = _trace(rays_N3, pose_44[:3, 3], walls, textures)
        frames.append(colour_N3.reshape(height, width, 3))
    return np.stack(frames)


def _trace(
    rays_N3: Array, origin_3: Array, walls: Sequence[Wall], textures: Sequence[Frames]
) -> Frames:
    """The colour that each ray meets first."""
    nearest_N = np.full(len(rays_N3), np.inf)
    colour_N3 = np.zeros((len(rays_N3), 3), np.uint8)
    for wall, texture in zip(walls, textures, strict=True):
        first_3, second_3 = np.array(wall.first_3), np.array(wall.second_3)
        normal_3 = np.cross(first_3, second_3)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth_N = ((np.array(wall.corner_3) - origin_3) @ normal_3) / (rays_N3 @ normal_3)
            hit_N3 = origin_3 + rays_N3 * depth_N[:, None] - wall.corner_3
            along_N = hit_N3 @ first_3 / (first_3 @ first_3)
            down_N = hit_N3 @ second_3 / (second_3 @ second_3)
        is_hit_N = (depth_N > 1e-6) & (depth_N < nearest_N)
        is_hit_N &= (along_N >= 0) & (along_N <= 1) & (down_N >= 0) & (down_N <= 1)
        columns = (along_N[is_hit_N] * texture.shape[1] - 0.5).astype(np.float32)
        rows = (down_N[is_hit_N] * texture.shape[0] - 0.5).astype(np.float32)
        colour_N3[is_hit_N] = _sample(texture, columns, rows)
        nearest_N[is_hit_N] = depth_N[is_hit_N]
    return colour_N3


def _sample(texture: Frames, columns: Array, rows: Array) -> Frames:
    """Colours of a texture between its pixels, ``(N, 3)``."""
    if not len(columns):
        return np.zeros((0, 3), np.uint8)
    width = 8192  # OpenCV maps pictures of less than 32768 rows
    padding = -len(columns) % width
    x, y = (np.pad(one, (0, padding)).reshape(-1, width) for one in (columns, rows))
    found = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found.reshape(-1, 3)[: len(columns)], np.uint8)


def pinhole(
    positions_T3: Array, rotvecs_T3: Array, size: tuple[int, int] = (180, 320), focal: float = 0.9
) -> dict[str, Array]:
    """The camera signal of a pinhole camera.

    Args:
        positions_T3: places in metres.
        rotvecs_T3: rotations as axis times angle in degrees.
        size: height and width in pixels.
        focal: focal length in widths.
    """
    poses_T44 = np.tile(np.eye(4), (len(positions_T3), 1, 1))
    poses_T44[:, :3, 3] = positions_T3
    poses_T44[:, :3, :3] = Rotation.from_rotvec(np.radians(rotvecs_T3)).as_matrix()
    focal_px = focal * size[1]
    matrix_33 = np.array([[focal_px, 0, size[1] / 2], [0, focal_px, size[0] / 2], [0, 0, 1]])
    matrices_T33 = np.tile(matrix_33, (len(poses_T44), 1, 1))
    return {"poses": poses_T44, "intrinsics": matrices_T33, "size": np.array(size)}


def flight(num_frames: int, size: tuple[int, int] = (180, 320)) -> dict[str, Array]:
    """A camera that flies through the room on a bend, looking around.

    Args:
        num_frames: frames of the flight.
        size: height and width in pixels.
    """
    u = np.linspace(0, 1, num_frames)[:, None]
    positions_T3 = np.concatenate([-0.9 + 1.8 * u, -0.2 + 0.3 * u**2, -2.2 + 1.1 * u], axis=1)
    rotvecs_T3 = np.concatenate([4 * np.sin(3 * u), 14 - 30 * u, 3 * u], axis=1)
    return pinhole(positions_T3, rotvecs_T3, size)
