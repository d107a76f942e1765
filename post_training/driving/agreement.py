"""Do several cameras show one world? Colours where two of them see the same point.

Rendered drives have the depth of each pixel (``scene_depth.npz``) and the place of each camera, so
that a pixel of one view is a point of the world, which another view sees at a known place. There
both must have the same colour. A generated video is asked at the points of its recording: what it
shows must stand where the path leads, and in all views alike.

Shape suffixes: T frames, H W pixels, P points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import Values
from nemo_cosmos.controls.camera import pixel_rays, project_rays

MIN_POINTS = 40
"""Fewer points that two views share say nothing."""
_SAME_SHARE, _SAME_M = 0.05, 0.3
_BORDER_PX = 1.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SharedPoints:
    """Points of one moment that two views see, in the pixels of each."""

    first_P2: Floats
    second_P2: Floats


def shared_points(
    cameras: tuple[Values, Values], depths_HW: tuple[Array, Array], frame: int
) -> SharedPoints:
    """Find what two cameras see at once.

    Args:
        cameras: the arrays of ``camera.npz`` of both.
        depths_HW: metres along each camera's axis to what its pixels show.
        frame: the moment.
    """
    height, width = depths_HW[0].shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels_P2 = np.stack([x.ravel(), y.ravel()], axis=1)
    rays_P3 = pixel_rays(cameras[0], frame, pixels_P2)
    depth_P1 = np.asarray(depths_HW[0], np.float64).reshape(-1, 1)
    poses = [np.asarray(camera["poses"][frame], np.float64) for camera in cameras]
    world_P3 = (rays_P3 / rays_P3[:, 2:] * depth_P1) @ poses[0][:3, :3].T + poses[0][:3, 3]
    seen_P3 = (world_P3 - poses[1][:3, 3]) @ poses[1][:3, :3]
    places_P2 = project_rays(cameras[1], frame, seen_P3)
    low, high = _BORDER_PX, np.array([width, height]) - _BORDER_PX
    with np.errstate(invalid="ignore"):
        is_in_P = (seen_P3[:, 2] > 0) & ((places_P2 > low) & (places_P2 < high)).all(axis=1)
    other_P = _sample(np.asarray(depths_HW[1], np.float32)[..., None], places_P2[is_in_P])[:, 0]
    away_P = np.abs(other_P - seen_P3[is_in_P, 2])
    is_same_P = away_P < _SAME_M + _SAME_SHARE * seen_P3[is_in_P, 2]  # not hidden there
    return SharedPoints(pixels_P2[is_in_P][is_same_P], places_P2[is_in_P][is_same_P])


def view_differences(
    views: Mapping[str, NDArray[np.uint8]],
    cameras: Mapping[str, Values],
    depths: Mapping[str, Array],
    first_frame: int = 1,
) -> Floats:
    """Mean difference of colours between views at each frame, ``(T,)`` in grey levels of 255.

    NaN where no two views share enough.

    Args:
        views: frames ``(T, H, W, 3)`` of each view, generated or true.
        cameras: the arrays of ``camera.npz`` of each.
        depths: metres along each camera's axis, ``(T, H, W)``.
        first_frame: the first frame that counts; what is before was given.
    """
    num_frames = len(next(iter(views.values())))
    found_T = np.full(num_frames, np.nan)
    for frame in range(first_frame, num_frames):
        values = []
        for one, other in combinations(views, 2):
            points = shared_points(
                (cameras[one], cameras[other]), (depths[one][frame], depths[other][frame]), frame
            )
            if len(points.first_P2) < MIN_POINTS:
                continue
            colors = [
                _sample(views[name][frame].astype(np.float32), places_P2)
                for name, places_P2 in ((one, points.first_P2), (other, points.second_P2))
            ]
            values.append(float(np.abs(colors[0] - colors[1]).mean()))
        if values:
            found_T[frame] = np.mean(values)
    return found_T


def _sample(picture_HWC: NDArray[np.float32], places_P2: Floats) -> NDArray[np.float32]:
    """Values between the pixels of a picture, ``(P, C)``."""
    if not len(places_P2):  # OpenCV refuses it
        return np.zeros((0, picture_HWC.shape[2]), np.float32)
    places = (places_P2 - 0.5).astype(np.float32)
    found = cv2.remap(
        picture_HWC,
        places[None, :, 0],
        places[None, :, 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(found.reshape(len(places_P2), -1))
