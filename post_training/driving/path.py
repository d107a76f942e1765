"""The path of a car as its cameras see it: relative to the first frame, and resampled.

A trajectory is ``(N, 3)`` positions in metres or ``(N, 4, 4)`` poses, in any fixed axes with z up.
Positions alone do not say which way the car looks. A car looks along its path, so that the heading
is the path's direction, and the opposite one while it reverses. A path that begins at the origin is
in the axes of its first frame, as recordings are; a window from the middle of one is turned first.

Shape suffixes: B batch, N pixel frames, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nemo_cosmos.errors import SampleError

NUM_POINTS = 64
"""Points of a trajectory, as the published model takes them."""
STILL_M = 0.02
"""A step shorter than this has no direction; the car keeps its heading."""


def vehicle_poses(trajectory: Tensor) -> Tensor:
    """Poses of the car in the axes of its first frame, ``(B, N, 4, 4)`` float64, vehicle to world.

    Args:
        trajectory: positions ``(B, N, 3)``, or poses ``(B, N, 4, 4)``.

    Raises:
        SampleError: it has another shape.
    """
    trajectory = trajectory.double()
    if trajectory.shape[2:] == (4, 4):
        poses_BN44 = trajectory
    elif trajectory.shape[2:] == (3,):
        poses_BN44 = _with_headings(trajectory)
    else:
        raise SampleError(
            f"The trajectory has shape {tuple(trajectory.shape[1:])}; expected (N, 3) positions in "
            "metres, or (N, 4, 4) poses, a row for each frame."
        )
    turn_B133 = poses_BN44[:, :1, :3, :3].transpose(2, 3)
    moved_BN3 = poses_BN44[:, :, :3, 3] - poses_BN44[:, :1, :3, 3]
    relative_BN44 = torch.zeros_like(poses_BN44)
    relative_BN44[:, :, :3, :3] = turn_B133 @ poses_BN44[:, :, :3, :3]
    relative_BN44[:, :, :3, 3] = (turn_B133 @ moved_BN3[..., None])[..., 0]
    relative_BN44[:, :, 3, 3] = 1
    return relative_BN44


def _with_headings(points_BN3: Tensor) -> Tensor:
    """Poses of a car that looks along its path."""
    batch, count, _ = points_BN3.shape
    ways_BN2 = _ways(points_BN3[..., :2])
    is_moving_BN = ways_BN2.norm(dim=-1) > STILL_M
    ways_BN2 = ways_BN2 / ways_BN2.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    forward_2 = points_BN3.new_tensor([1.0, 0.0])
    first_B2 = ways_BN2[torch.arange(batch), is_moving_BN.int().argmax(dim=1)]
    begins_B1 = (points_BN3[:, :1].norm(dim=-1) < STILL_M) | ~is_moving_BN.any(dim=1, keepdim=True)
    heading_B2 = torch.where(begins_B1, forward_2, first_B2)
    headings = [heading_B2]
    for number in range(1, count):
        way_B2 = ways_BN2[:, number]
        is_reversing_B1 = (way_B2 * heading_B2).sum(dim=1, keepdim=True) < 0
        way_B2 = torch.where(is_reversing_B1, -way_B2, way_B2)
        heading_B2 = torch.where(is_moving_BN[:, number, None], way_B2, heading_B2)
        headings.append(heading_B2)
    cosine_BN, sine_BN = torch.stack(headings, dim=1).unbind(dim=-1)
    poses_BN44 = torch.eye(4, dtype=points_BN3.dtype, device=points_BN3.device)
    poses_BN44 = poses_BN44.repeat(batch, count, 1, 1)
    poses_BN44[..., 0, 0], poses_BN44[..., 0, 1] = cosine_BN, -sine_BN
    poses_BN44[..., 1, 0], poses_BN44[..., 1, 1] = sine_BN, cosine_BN
    poses_BN44[..., :3, 3] = points_BN3
    return poses_BN44


def _ways(points_BN2: Tensor) -> Tensor:
    """Direction and speed of a path at each frame, in metres a frame, of second order."""
    count = points_BN2.shape[1]
    if count < 3:
        steps_BN2 = points_BN2.diff(dim=1)
        return torch.cat([steps_BN2[:, :1], steps_BN2], dim=1) if count > 1 else 0 * points_BN2
    inner_BN2 = (points_BN2[:, 2:] - points_BN2[:, :-2]) / 2
    first, last = (
        (-3 * one[:, :1] + 4 * one[:, 1:2] - one[:, 2:3]) / 2
        for one in (points_BN2, points_BN2.flip(1))
    )
    return torch.cat([first, inner_BN2, -last], dim=1)


def resample(points_BN3: Tensor, num_points: int = NUM_POINTS) -> Tensor:
    """Points at even times along a path, ``(B, P, 3)``; the first and the last one stay.

    Args:
        points_BN3: a position for each frame.
        num_points: P.
    """
    by_time_B3N = points_BN3.transpose(1, 2)
    resampled_B3P = torch.nn.functional.interpolate(
        by_time_B3N, size=num_points, mode="linear", align_corners=True
    )
    return resampled_B3P.transpose(1, 2)
