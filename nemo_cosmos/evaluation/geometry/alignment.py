"""The path of a video's camera, found by laying the first frame onto each later one.

Structure from motion needs corners that it can tell apart, which small or soft pictures do not
have. Where the depth of the first frame is known (``scene_depth.npz``), it is not needed: each
pixel of the first frame is a point in space, and the camera of a later frame is where all these
points, as it sees them, have the colours that they had (direct image alignment; Lucas and Kanade,
1981; Engel et al., 2014). The given path is never looked at: the search starts from the frame
before. It goes from blurred pictures to sharp ones, and its positions are in metres.

Shape suffixes: T frames, P points, C channels; 33 and 44 matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls import Values
from nemo_cosmos.evaluation.geometry.kept import LastResults
from nemo_cosmos.evaluation.metric import Frames

Floats = NDArray[np.float64]

BLURS = (0.04, 0.02, 0.01)
"""Blur of the pictures, in widths of them, in the order of the search."""
NUM_STEPS = 20
MIN_SHARE = 0.25
"""Share of the points that must be in view; fewer show too little of a camera."""
_BORDER_PX = 1.0
_OUTLIER = 3.0
_DAMPING = 1e-6
_ENOUGH = 1e-4
_SURE = 0.998

_kept: LastResults[AlignedPath] = LastResults(most=8)


@dataclass(frozen=True)
class AlignedPath:
    """Where a camera was as seen from the first frame, in metres.

    Attributes:
        poses_T44: camera to the first camera, in OpenCV's axes.
        agreement_T: correlation of each frame with the first frame's points, where they are in
            view: 1 is the same picture.
    """

    poses_T44: Floats
    agreement_T: Floats


def find_aligned_path(frames_THWC: Frames, camera: Values, depth_HW: Floats) -> AlignedPath:
    """Find the camera of each frame.

    Several metrics ask for the same path, so the last few are kept.

    Args:
        frames_THWC: uint8 RGB frames.
        camera: the arrays of ``camera.npz`` of a pinhole, with ``size`` that of the frames; only
            its lens is looked at.
        depth_HW: depth of the first frame along the axis, in metres.
    """
    lenses_T33 = np.asarray(camera["intrinsics"], np.float64)
    depths_HW = np.asarray(depth_HW, np.float64)
    about = (frames_THWC.tobytes(), lenses_T33.tobytes(), depths_HW.tobytes())
    return _kept.get(about, lambda: _find(frames_THWC, lenses_T33, depths_HW))


def _find(frames_THWC: Frames, lenses_T33: Floats, depth_HW: Floats) -> AlignedPath:
    height, width = frames_THWC.shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    pixels_P3 = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5, np.ones(rows.size)], axis=1)
    points_P3 = pixels_P3 @ np.linalg.inv(lenses_T33[0]).T * depth_HW.reshape(-1, 1)
    # Blurred pictures say little that every other row and column does not.
    is_some_P = ((rows % 2 == 0) & (columns % 2 == 0)).ravel()
    first = [_blurred(frames_THWC[0], blur * width).reshape(-1, 3) for blur in BLURS]
    points = [points_P3[is_some_P] for _ in BLURS[:-1]] + [points_P3]
    colors = [first_PC[is_some_P] for first_PC in first[:-1]] + [first[-1]]
    poses, agreement = [np.eye(4)], [1.0]
    for frame in range(1, len(frames_THWC)):
        lens_33 = lenses_T33[frame]
        pictures = [_with_slopes(_blurred(frames_THWC[frame], blur * width)) for blur in BLURS]
        # From where the camera was; from where a turn alone would bring it, since a turn and a step
        # to the side look much alike; and from where it would be if it went on as before.
        coarse = points[0], colors[0], pictures[0], lens_33
        starts = [poses[-1], _search(*coarse, poses[-1], num_free=3)]
        if frame > 1:
            starts.append(poses[-1] @ np.linalg.inv(poses[-2]) @ poses[-1])
        best, found_44 = -np.inf, poses[-1]
        for pose_44 in starts:
            for points_of, colors_of, picture_HWK in zip(points, colors, pictures, strict=True):
                pose_44 = _search(points_of, colors_of, picture_HWK, lens_33, pose_44)
            agrees = _agreement(points_P3, first[-1], pictures[-1], lens_33, pose_44)
            if agrees > best:
                best, found_44 = agrees, pose_44
            if best > _SURE:
                break
        poses.append(found_44)
        agreement.append(best)
    return AlignedPath(np.stack(poses), np.array(agreement))


def _blurred(frame_HWC: Frames, sigma_px: float) -> Floats:
    picture_HWC = frame_HWC.astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(picture_HWC, (0, 0), max(sigma_px, 0.3)), np.float64)


def _with_slopes(picture_HWC: Floats) -> Floats:
    """Colours with their slopes along columns and rows, ``(H, W, 9)``."""
    slopes = [cv2.Sobel(picture_HWC, cv2.CV_64F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0)]
    return np.concatenate([picture_HWC, *slopes], axis=2)


def _search(
    points_P3: Floats,
    first_PC: Floats,
    picture_HWK: Floats,
    lens_33: Floats,
    pose_44: Floats,
    num_free: int = 6,
) -> Floats:
    """Gauss and Newton's steps from a pose to where the points have their colours.

    Args:
        points_P3: the points, seen from the first camera.
        first_PC: their colours.
        picture_HWK: the picture with its slopes.
        lens_33: its lens.
        pose_44: where the search begins.
        num_free: 6, or 3 for a camera that only turns.
    """
    fx, fy = lens_33[0, 0], lens_33[1, 1]
    for _ in range(NUM_STEPS):
        seen_P3, pixels_P2, is_seen_P = _project(points_P3, lens_33, pose_44, picture_HWK.shape)
        if is_seen_P.mean() < MIN_SHARE:
            break
        sampled = _sample(picture_HWK, pixels_P2[is_seen_P])
        off_PC = sampled[:, :3] - first_PC[is_seen_P]
        away_P = np.linalg.norm(off_PC, axis=1)
        # What something nearer hides, and what was made up, is far off; it must not pull.
        scale = _OUTLIER * 1.4826 * float(np.median(away_P)) + 1e-6
        weight_P = np.where(away_P < scale, (1 - (away_P / scale) ** 2) ** 2, 0)
        x, y, z = seen_P3[is_seen_P].T
        zero = np.zeros_like(x)
        # How a pixel moves when the point, seen from the camera, turns (rad) and moves (m).
        u_P6 = np.stack([-fx * x * y / z**2, fx * (1 + x**2 / z**2), -fx * y / z,
                         fx / z, zero, -fx * x / z**2], axis=1)  # fmt: skip
        v_P6 = np.stack([-fy * (1 + y**2 / z**2), fy * x * y / z**2, fy * x / z,
                         zero, fy / z, -fy * y / z**2], axis=1)  # fmt: skip
        slopes_PC6 = sampled[:, 3:6, None] * u_P6[:, None] + sampled[:, 6:9, None] * v_P6[:, None]
        slopes_PC6 = slopes_PC6[..., :num_free]
        weighted = (slopes_PC6 * weight_P[:, None, None]).reshape(-1, num_free)
        normal_66 = weighted.T @ slopes_PC6.reshape(-1, num_free)
        normal_66 += _DAMPING * np.diag(np.diag(normal_66)) + 1e-9 * np.eye(num_free)
        step_6 = np.zeros(6)
        step_6[:num_free] = -np.linalg.solve(normal_66, weighted.T @ off_PC.ravel())
        pose_44 = pose_44 @ np.linalg.inv(_motion(step_6))
        if np.abs(step_6).max() < _ENOUGH:
            break
    return pose_44


def _motion(step_6: Floats) -> Floats:
    """A small turn and move as a matrix."""
    matrix_44 = np.eye(4)
    matrix_44[:3, :3] = Rotation.from_rotvec(step_6[:3]).as_matrix()
    matrix_44[:3, 3] = step_6[3:]
    return matrix_44


def _project(
    points_P3: Floats, lens_33: Floats, pose_44: Floats, shape: tuple[int, ...]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Points in the camera's axes, their pixels, and which are within the picture."""
    seen_P3 = (points_P3 - pose_44[:3, 3]) @ pose_44[:3, :3]
    depth_P = np.where(seen_P3[:, 2] > 1e-3, seen_P3[:, 2], 1)
    pixels_P2 = (seen_P3 / depth_P[:, None] @ lens_33.T)[:, :2]
    is_seen_P = (seen_P3[:, 2] > 1e-3) & (pixels_P2 > _BORDER_PX).all(1)
    is_seen_P &= (pixels_P2 < np.array(shape[1::-1]) - _BORDER_PX).all(1)
    return seen_P3, pixels_P2, is_seen_P


def _sample(picture_HWC: Floats, pixels_P2: Floats) -> Floats:
    """Values between pixels, ``(P, C)``."""
    at_P2 = pixels_P2 - 0.5  # arrays count from the middle of the first pixel
    corner_P2 = np.floor(at_P2).astype(int)
    x, y = corner_P2.T
    part_x, part_y = (at_P2 - corner_P2).T[:, :, None]
    upper = picture_HWC[y, x] * (1 - part_x) + picture_HWC[y, x + 1] * part_x
    lower = picture_HWC[y + 1, x] * (1 - part_x) + picture_HWC[y + 1, x + 1] * part_x
    return np.asarray(upper * (1 - part_y) + lower * part_y)


def _agreement(
    points_P3: Floats, first_PC: Floats, picture_HWK: Floats, lens_33: Floats, pose_44: Floats
) -> float:
    """Correlation of the colours, over the points in view; -1 where too few are."""
    _, pixels_P2, is_seen_P = _project(points_P3, lens_33, pose_44, picture_HWK.shape)
    if is_seen_P.mean() < MIN_SHARE:
        return -1.0
    pair = [first_PC[is_seen_P], _sample(picture_HWK[..., :3], pixels_P2[is_seen_P])]
    one, other = (values - values.mean(axis=0) for values in pair)
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0
