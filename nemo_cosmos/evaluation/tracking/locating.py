"""Where something is in the true video: by the recorded camera, or by what moves as recorded.

With a camera, a recorded point is projected. Without one, the recorded path of a gripper still says
how it moves. Points of the picture are carried along by optical flow (DIS; Kroeger et al., 2016),
and the gripper is where an affine map of the recorded positions explains their paths: far from the
camera, a picture is such a map (weak perspective).

Points are (x, y) in pixels from the picture's upper left corner. Shape suffixes: T frames, N
points, 2 pixels, 3 metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values, fit_camera
from nemo_cosmos.controls.camera import project_rays
from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.metric import Frames
from nemo_cosmos.evaluation.tracking.matching import Floats, Pictures, resized, working_scale

MIN_EXPLAINED = 0.93
"""Share of a point's motion that the recorded positions must explain to call it the gripper."""
MIN_FRAMES = 8
"""An affine map has four unknowns a coordinate; fewer frames fit almost anything."""
_MIN_SPREAD_PX = 3.0
_GRID_PX = 6
_NUM_POINTS = 12
_GRIPPER_PX = 14
"""Half the size of a gripper of which nothing else is known, at the working size."""


@dataclass(frozen=True)
class Located:
    """Where something is in the true video.

    Attributes:
        points_T2: (x, y) in pixels of the video.
        is_inside_T: which frames show it.
        radius_px: half its size.
        m_per_px_T: metres that a pixel is wide where it is; None without a camera.
    """

    points_T2: Floats
    is_inside_T: NDArray[np.bool_]
    radius_px: float
    m_per_px_T: Floats | None = None


def project(
    positions_T3: Floats, radius_m: float, camera: Values, size: tuple[int, int]
) -> Located:
    """Project recorded positions into the picture.

    Args:
        positions_T3: the positions in metres, in the world of the camera's poses.
        radius_m: half the size of what is there.
        camera: the arrays of ``camera.npz``.
        size: height and width of the frames.
    """
    camera = fit_camera(camera, size)
    poses_T44 = np.asarray(camera["poses"], np.float64)
    focal_T = np.asarray(camera["intrinsics"], np.float64)[:, 0, 0]
    away_T3 = positions_T3 - poses_T44[:, :3, 3]
    seen_T3 = np.einsum("tji,tj->ti", poses_T44[:, :3, :3], away_T3)
    points_T2 = np.concatenate(
        [project_rays(camera, frame, ray[None]) for frame, ray in enumerate(seen_T3)]
    )
    is_inside_T = _are_inside(points_T2, size)
    m_per_px_T = np.maximum(seen_T3[:, 2], 1e-6) / focal_T
    nearest = m_per_px_T[is_inside_T].min(initial=np.inf)
    return Located(points_T2, is_inside_T, radius_m / nearest, m_per_px_T)


def find_moving_as(frames_THWC: Frames, positions_T3: Floats) -> Located:
    """Find what moves as the recorded positions do.

    Args:
        frames_THWC: uint8 RGB frames of the true video.
        positions_T3: recorded positions, in any axes and unit.

    Raises:
        VideoError: there are too few frames, or nothing moves that way.
    """
    num_frames = len(frames_THWC)
    if num_frames < MIN_FRAMES:
        raise VideoError(
            f"Without a recorded camera the gripper is found by how it moves, which takes "
            f"{MIN_FRAMES} frames, and the video has {num_frames}. Put a 'camera.npz' beside it, "
            "evaluate longer clips, or leave the metric out."
        )
    pictures = resized(frames_THWC)
    flows = _Flows(pictures)
    spread = positions_T3 - positions_T3.mean(axis=0)
    known_T4 = np.c_[spread / max(float(np.abs(spread).max()), 1e-9), np.ones(num_frames)]
    best, maps_N42 = 0.0, np.zeros((0, 4, 2))
    explained = 0.0
    for first in sorted({0, num_frames // 4, num_frames // 2, num_frames - 1}):
        maps, shares_N, worth_N = _fit(flows.carried(first), known_T4)
        top = np.argsort(-worth_N)[:_NUM_POINTS]
        top = top[worth_N[top] > 0.6 * worth_N[top[0]]]
        if worth_N[top].sum() > best:
            best, maps_N42, explained = worth_N[top].sum(), maps[top], float(shares_N[top].mean())
    if explained < MIN_EXPLAINED:
        raise VideoError(
            "Nothing in the true video moves as the recorded states say (they explain "
            f"{explained:.0%} of the best point's motion, expected {MIN_EXPLAINED:.0%}): the "
            "gripper is hidden or stands still, or the states do not begin with x, y, z. Put a "
            "'camera.npz' beside the video, or leave the metric out."
        )
    scale = working_scale(frames_THWC)
    points_T2 = known_T4 @ maps_N42.mean(axis=0) / scale
    size = (frames_THWC.shape[1], frames_THWC.shape[2])
    return Located(points_T2, _are_inside(points_T2, size), _GRIPPER_PX / scale)


class _Flows:
    """Optical flow between neighbouring frames, there and back.

    Args:
        frames_THWC: frames at the working size.
    """

    def __init__(self, frames_THWC: Pictures) -> None:
        grey = [
            cv2.cvtColor(np.clip(frame, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
            for frame in frames_THWC
        ]
        self._size = (frames_THWC.shape[1], frames_THWC.shape[2])
        self._num_frames = len(grey)
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._flows = {
            (t, other): dis.calc(grey[t], grey[other], None)
            for t in range(len(grey))
            for other in (t - 1, t + 1)
            if 0 <= other < len(grey)
        }

    def carried(self, first: int) -> Floats:
        """Paths ``(T, N, 2)`` of a grid of points of one frame; NaN where they are lost."""
        height, width = self._size
        y, x = np.mgrid[2:height:_GRID_PX, 2:width:_GRID_PX]
        paths_TN2 = np.full((self._num_frames, x.size, 2), np.nan)
        paths_TN2[first] = np.stack([x.ravel(), y.ravel()], axis=1)
        for t in range(first, self._num_frames - 1):
            paths_TN2[t + 1] = self._step(paths_TN2[t], t, t + 1)
        for t in range(first, 0, -1):
            paths_TN2[t - 1] = self._step(paths_TN2[t], t, t - 1)
        return paths_TN2 + 0.5

    def _step(self, points_N2: Floats, frame: int, other: int) -> Floats:
        """Where points are in a neighbouring frame; NaN where the way back leads elsewhere."""
        there_N2 = _sample(self._flows[frame, other], points_N2)
        after_N2 = points_N2 + there_N2
        back_N2 = _sample(self._flows[other, frame], after_N2)
        is_lost_N = np.linalg.norm(there_N2 + back_N2, axis=1) > 1.5 + 0.1 * np.linalg.norm(
            there_N2, axis=1
        )
        is_lost_N |= ~_are_inside(after_N2 + 0.5, self._size)
        after_N2[is_lost_N] = np.nan
        return np.asarray(after_N2)


def _sample(flow_HW2: NDArray[np.float32], points_N2: Floats) -> Floats:
    """The flow at points; NaN at NaN."""
    is_known_N = np.asarray(np.isfinite(points_N2).all(axis=1))
    maps_1N2 = np.where(is_known_N[:, None], points_N2, 0)[None].astype(np.float32)
    found_N2 = cv2.remap(flow_HW2, maps_1N2, None, cv2.INTER_LINEAR)[0].astype(np.float64)
    found_N2[~is_known_N] = np.nan
    return np.asarray(found_N2)


def _fit(paths_TN2: Floats, known_T4: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit each point's path as an affine map of what is recorded.

    Returns:
        the maps ``(N, 4, 2)``, the share of the motion that each explains ``(N,)``, and how much
        of an explained motion it is ``(N,)``.
    """
    is_known_TN = np.isfinite(paths_TN2[..., 0])
    weights_TN = is_known_TN.astype(np.float64)
    count_N = np.maximum(weights_TN.sum(axis=0), 1)
    filled_TN2 = np.where(is_known_TN[..., None], paths_TN2, 0)
    gram_N44 = np.einsum("tn,ti,tj->nij", weights_TN, known_T4, known_T4)
    gram_N44 += 1e-6 * np.eye(4)  # a straight path leaves some of the four unknowns open
    right_N42 = np.einsum("tn,ti,tnk->nik", weights_TN, known_T4, filled_TN2)
    maps_N42 = np.linalg.solve(gram_N44, right_N42)
    off_TN2 = (filled_TN2 - np.einsum("ti,nik->tnk", known_T4, maps_N42)) * weights_TN[..., None]
    mean_N2 = filled_TN2.sum(axis=0) / count_N[:, None]
    moved_TN2 = (filled_TN2 - mean_N2) * weights_TN[..., None]
    spread_N = (moved_TN2**2).sum(axis=(0, 2)) / count_N
    shares_N = 1 - (off_TN2**2).sum(axis=(0, 2)) / count_N / np.maximum(spread_N, 1e-9)
    num_frames = len(paths_TN2)
    is_long_N = count_N >= max(MIN_FRAMES, num_frames / 2)
    is_moving_N = is_long_N & (np.sqrt(spread_N) > _MIN_SPREAD_PX)
    worth_N = np.maximum(shares_N - 0.7, 0) * np.sqrt(spread_N) * count_N / num_frames
    return maps_N42, np.where(is_moving_N, shares_N, 0), np.where(is_moving_N, worth_N, 0)


def _are_inside(points_N2: Floats, size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    x_N, y_N = points_N2.T
    return np.asarray((x_N >= 0) & (y_N >= 0) & (x_N <= width) & (y_N <= height))
