"""Where things are, seen in a picture: judge imagined and simulated pictures by the same eye.

A **block** is found by its colour. It stands on the table, so that one camera is enough: its centre
is where the ray through the blob's centre meets the plane half a block above the table, corrected
for the blob's centre not being the picture of the block's centre.

The **gripper** may be at any height. The white arm is segmented by colour and averaged over a
coarse grid, and kernel ridge regression on pictures of the simulator, whose truth is known, leads
from there to the position. A world model's pictures are blurred, so that the eye learns from
blurred copies, too: an eye that knew only sharp pictures would take blur for distance. A picture
like none of the known ones shows no gripper.

Shape suffixes: N pictures, F features, M known pictures, H height, W width, C colours.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from nemo_cosmos.cache import cache_dir
from nemo_cosmos.storage import atomic_path
from post_training.robotics.simulation.scene import (
    BLOCK_HALF_M,
    CAMERA,
    COLORS,
    WORKSPACE_HIGH_M,
    WORKSPACE_LOW_M,
)
from post_training.robotics.simulation.tasks import make_task
from post_training.robotics.usefulness.environment import Form
from post_training.robotics.usefulness.simulated import TASK, SimulatedTable, pose_above

NUM_KNOWN = 800
"""Pictures of the simulator that an eye learns from."""

EYE_VERSION = 2
"""Raise it when an eye looks at other pictures, or for other features."""

_SEED = 7
_GRID_HW = (12, 16)
_BLURS = (0, 1 / 48, 1 / 24)  # standard deviations, in heights of the picture
_WIDTH = 1.0  # of the kernel, in median squared distances of the known pictures
_RIDGE = 1e-2
_UNLIKE = 0.4  # median squared distances from the nearest known picture; beyond it, no gripper
_MAX_TURN_RAD = np.array([0.15, 0.15, 0.35])  # as in the simulator's own tasks
_MARGIN_M = 0.03

_MAX_CHROMA_DISTANCE = 0.13
_MIN_BRIGHTNESS = 0.12
_MIN_BLOB_PIXELS = 4
_WOOD_RGB = (0.76, 0.59, 0.41)
_GREY_RGB = (1.0, 1.0, 1.0)
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


class Eye:
    """Finds the gripper and the blocks in pictures of one size.

    Args:
        form: the form of the pictures.
        features_MF: features of the known pictures.
        positions_M3: where the gripper is in them.
    """

    def __init__(self, form: Form, features_MF: np.ndarray, positions_M3: np.ndarray) -> None:
        self.form = form
        self._mean_F = features_MF.mean(0)
        self._known_MF = features_MF - self._mean_F
        distances_MM = _squared_distances(self._known_MF, self._known_MF)
        self._unit = float(np.median(distances_MM))
        kernel_MM = np.exp(-distances_MM / (_WIDTH * self._unit))
        self._offset_3 = positions_M3.mean(0)
        self._weights_M3 = np.linalg.solve(
            kernel_MM + _RIDGE * np.eye(len(kernel_MM)), positions_M3 - self._offset_3
        )

    @classmethod
    def learn(cls, table: SimulatedTable, num_known: int | None = None) -> Eye:
        """Let an eye look at the simulator, always at the same pictures.

        What it saw is kept in the user's cache, for as long as the simulator draws the same.

        Args:
            table: the simulator; its seed has no effect.
            num_known: number of pictures; by default :data:`NUM_KNOWN`.
        """
        num_known = num_known or NUM_KNOWN
        known = _known(table)
        first = next(known)
        drawn = hashlib.sha256(first[0].tobytes()).hexdigest()[:16]
        file = cache_dir() / "eyes" / f"{EYE_VERSION}-{num_known}-{drawn}.npz"
        kept = _read(file)
        if kept is None:
            pictures, positions = zip(first, *itertools.islice(known, num_known - 1), strict=True)
            blurred = [_blurred(picture, blur) for blur in _BLURS for picture in pictures]
            kept = features(np.stack(blurred)), np.tile(np.stack(positions), (len(_BLURS), 1))
            with contextlib.suppress(OSError):  # it is only a cache
                _keep(file, *kept)
        return cls(table.form, *kept)

    def gripper_m(self, frames_NHWC: np.ndarray) -> np.ndarray:
        """Return where the gripper is, ``(N, 3)`` in metres; NaN where none is seen."""
        features_NF = features(frames_NHWC) - self._mean_F
        distances_NM = _squared_distances(features_NF, self._known_MF)
        seen_N3 = np.exp(-distances_NM / (_WIDTH * self._unit)) @ self._weights_M3
        seen_N3 = seen_N3 + self._offset_3
        seen_N3[distances_NM.min(1) > _UNLIKE * self._unit] = np.nan
        return seen_N3

    def block_m(self, frame_HWC: np.ndarray, color: str) -> np.ndarray | None:
        """Return where the block of a colour is, ``(3,)`` in metres; None where none is seen.

        Args:
            frame_HWC: the picture.
            color: a key of :data:`~post_training.robotics.simulation.scene.COLORS`.
        """
        blob = _largest_blob(_color_mask(frame_HWC, color))
        if blob is None:
            return None
        guess_m = self._on_plane(blob)
        for _ in range(2):
            shift = _outline_center(self._project(guess_m + BLOCK_HALF_M * _CORNERS))
            guess_m = self._on_plane(blob - (shift - self._project(guess_m[None])[0]))
        return guess_m

    def _project(self, points_V3: np.ndarray) -> np.ndarray:
        """Pixel coordinates ``(V, 2)`` of points in the world."""
        local_V3 = (points_V3 - np.array(CAMERA.position_m)) @ CAMERA.axes().T
        focal = 0.5 * self.form.height / np.tan(0.5 * np.deg2rad(CAMERA.fov_y_deg))
        x = 0.5 * self.form.width - focal * local_V3[:, 0] / local_V3[:, 2]
        y = 0.5 * self.form.height + focal * local_V3[:, 1] / local_V3[:, 2]
        return np.stack([x, y], 1) - 0.5

    def _on_plane(self, pixel_2: np.ndarray) -> np.ndarray:
        """Where the ray through a pixel meets the plane of the blocks' centres."""
        focal = 0.5 * self.form.height / np.tan(0.5 * np.deg2rad(CAMERA.fov_y_deg))
        x, y = pixel_2 + 0.5 - np.array([self.form.width, self.form.height]) / 2
        ray = np.array([x / focal, -y / focal, -1.0]) @ CAMERA.axes()
        position = np.array(CAMERA.position_m)
        return position + ray * (BLOCK_HALF_M - position[2]) / ray[2]


def _known(table: SimulatedTable) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures of random scenes, each with the gripper's position."""
    rng = np.random.default_rng(_SEED)
    while True:
        task = make_task(TASK, rng)
        position_m = rng.uniform(WORKSPACE_LOW_M - _MARGIN_M, WORKSPACE_HIGH_M + _MARGIN_M)
        position_m[2] = max(position_m[2], WORKSPACE_LOW_M[2])
        turn_rad = rng.uniform(-1, 1, 3) * _MAX_TURN_RAD * (rng.random() < 0.5)
        pose = pose_above(position_m, turn_rad)
        yield table.picture(task.blocks, pose, float(rng.integers(0, 2))), position_m


def _blurred(frame_HWC: np.ndarray, blur: float) -> np.ndarray:
    if not blur:
        return frame_HWC
    return np.asarray(cv2.GaussianBlur(frame_HWC, (0, 0), blur * frame_HWC.shape[0]))


def _read(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """What an eye saw before; None where nothing is kept, or it is damaged."""
    try:
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            return arrays["features"], arrays["positions"]
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, EOFError):
        return None


def _keep(file: Path, features_MF: np.ndarray, positions_M3: np.ndarray) -> None:
    with atomic_path(file) as temporary, temporary.open("wb") as handle:
        np.savez(handle, features=features_MF, positions=positions_M3)


def features(frames_NHWC: np.ndarray) -> np.ndarray:
    """Return how much of each grid cell is white arm, ``(N, F)``."""
    rgb = frames_NHWC.astype(np.float32) / 255
    bright, dim = rgb.max(-1), rgb.min(-1)
    grey = np.clip((0.25 - (bright - dim) / (bright + 1e-6)) * 6, 0, 1)
    arms_NHW = grey * np.clip((bright - 0.55) * 4, 0, 1)
    height, width = _GRID_HW
    cells = [cv2.resize(arm, (width, height), interpolation=cv2.INTER_AREA) for arm in arms_NHW]
    return np.stack(cells).reshape(len(cells), -1).astype(np.float64)


def _color_mask(frame_HWC: np.ndarray, color: str) -> np.ndarray:
    """Pixels whose colour, whatever their brightness, is nearer to a block's than to any other."""
    rgb_HWC = frame_HWC.astype(np.float64) / 255
    names = list(COLORS)
    known = _chroma(np.array([*COLORS.values(), _WOOD_RGB, _GREY_RGB]))
    distances_HWK = np.linalg.norm(_chroma(rgb_HWC)[..., None, :] - known, axis=-1)
    is_nearest = distances_HWK.argmin(-1) == names.index(color)
    is_near = distances_HWK.min(-1) < _MAX_CHROMA_DISTANCE
    return is_nearest & is_near & (rgb_HWC.max(-1) > _MIN_BRIGHTNESS)


def _chroma(rgb: np.ndarray) -> np.ndarray:
    return rgb / (rgb.sum(-1, keepdims=True) + 1e-6)


def _largest_blob(mask_HW: np.ndarray) -> np.ndarray | None:
    """Centre ``(x, y)`` of the largest connected part; None where all are specks."""
    _, _, stats, centers = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    if len(areas) == 0 or areas.max() < _MIN_BLOB_PIXELS:
        return None
    return np.asarray(centers[1 + int(areas.argmax())], np.float64)


def _outline_center(pixels_V2: np.ndarray) -> np.ndarray:
    """Centre of the area that a solid's corners span in the picture."""
    moments = cv2.moments(cv2.convexHull(pixels_V2.astype(np.float32)))
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def _squared_distances(first_NF: np.ndarray, second_MF: np.ndarray) -> np.ndarray:
    squares = (first_NF**2).sum(1)[:, None] + (second_MF**2).sum(1)
    return np.maximum(squares - 2 * first_NF @ second_MF.T, 0)


def distance_m(first_N3: np.ndarray, second_N3: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return distances in metres; infinite where a position is not seen."""
    distances = np.linalg.norm(np.asarray(first_N3) - np.asarray(second_N3), axis=-1)
    return np.where(np.isfinite(distances), distances, np.inf)


def across_m(first_N3: np.ndarray, place_3: np.ndarray) -> np.ndarray:
    """Return distances from a place across the camera's line of sight to it, in metres.

    It is what a picture shows of a distance; how far away a thing is, one picture hardly shows.
    Infinite where a position is not seen.
    """
    sight_3 = place_3 - np.array(CAMERA.position_m)
    sight_3 = sight_3 / np.linalg.norm(sight_3)
    away_N3 = np.asarray(first_N3) - place_3
    return distance_m(away_N3 - (away_N3 @ sight_3)[..., None] * sight_3, np.zeros(3))
