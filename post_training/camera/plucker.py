"""Rays of a camera's pixels in Plücker coordinates, on the grid of a latent video.

A pixel's ray is the line through the camera's position ``c`` along the unit direction ``r``, and
its six Plücker coordinates are ``(c x r, r)``: the same for every point ``c`` of the line. Both are
seen from the clip's first camera, so that it does not matter where a world has its origin.

A latent frame after the first shows ``temporal_factor`` pixel frames, and has one camera: that of
the frame in their middle. With eight of them it is the fourth, as published; with any other number
the one before the middle, too, which is off by half a frame at most on a path that moves steadily.
The last one, say, would be ahead of what the latent frame shows by half its span. The first latent
frame shows the first frame alone.

Positions have no natural unit: structure from motion finds a path up to its scale. As published, a
clip's farthest position is therefore at distance 1 from its first. Where all paths are in metres,
a fixed unit keeps what that loses: that half a path is half as long.

Shape suffixes: B batch, N pixel frames, T latent frames, H W latent rows and columns; 33 and 44
matrices.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

STILL_M = 1e-4
"""A camera that stays within this of its first position stands still: its jitter is not scaled."""
_STILL_ROUNDINGS = 8
"""The same for positions far from the origin, in roundings of float32, in which they come."""
_BEHIND = 1e-3


def frames_of_latents(num_latent_frames: int, temporal_factor: int) -> list[int]:
    """The pixel frame whose camera each latent frame has.

    Args:
        num_latent_frames: T.
        temporal_factor: pixel frames per latent frame, except for the first.
    """
    middle = max(1, temporal_factor // 2)
    later = [number * temporal_factor + middle for number in range(num_latent_frames - 1)]
    return [0, *later]


def relative_poses(poses_BN44: Tensor, unit_m: float | None = None) -> Tensor:
    """Camera-to-world matrices seen from the first camera, their positions scaled; float64.

    Args:
        poses_BN44: camera to world, of all frames of the clip.
        unit_m: length of a unit of the result; None for the distance of the farthest position from
            the first, of each clip.
    """
    poses_BN44 = poses_BN44.double()
    first_B133 = poses_BN44[:, :1, :3, :3]
    moved_BN3 = poses_BN44[:, :, :3, 3] - poses_BN44[:, :1, :3, 3]
    relative_BN44 = torch.zeros_like(poses_BN44)
    # The inverse of a rotation is its transpose; inverting the whole matrix would lose digits.
    relative_BN44[:, :, :3, :3] = first_B133.transpose(2, 3) @ poses_BN44[:, :, :3, :3]
    seen_BN3 = (first_B133.transpose(2, 3) @ moved_BN3[..., None])[..., 0]
    relative_BN44[:, :, :3, 3] = seen_BN3 / _units(poses_BN44, seen_BN3, unit_m)
    relative_BN44[:, :, 3, 3] = 1
    return relative_BN44


def _units(poses_BN44: Tensor, seen_BN3: Tensor, unit_m: float | None) -> Tensor:
    """The length that counts as 1, ``(B, 1, 1)``."""
    if unit_m is not None:
        return torch.full_like(seen_BN3[:, :1, :1], unit_m)
    farthest_B = seen_BN3.norm(dim=2).amax(dim=1)
    away_B = poses_BN44[:, :, :3, 3].abs().amax(dim=(1, 2))
    rounding_B = _STILL_ROUNDINGS * torch.finfo(torch.float32).eps * away_B
    is_still_B = farthest_B <= rounding_B.clamp(min=STILL_M)
    return torch.where(is_still_B, torch.ones_like(farthest_B), farthest_B)[:, None, None]


def camera_rays(
    intrinsics_BT33: Tensor,
    size_B2: Tensor,
    grid_hw: tuple[int, int],
    polynomial_BK: Tensor | None = None,
) -> Tensor:
    """Unit rays through the middles of a grid's cells in the camera's own axes; float64.

    Args:
        intrinsics_BT33: in pixels from the picture's upper left corner.
        size_B2: height and width of the picture in pixels.
        grid_hw: rows and columns of the grid that covers the picture.
        polynomial_BK: of an f-theta lens, the angle off the axis for a radius in focal lengths,
            lowest coefficient first; None for a pinhole.

    Returns:
        ``(B, T, H, W, 3)``.
    """
    matrices = intrinsics_BT33.double()
    sizes = size_B2.double()[:, None, None, None]
    rows_H, columns_W = (
        torch.arange(count, dtype=torch.float64, device=matrices.device) + 0.5 for count in grid_hw
    )
    shape = (*matrices.shape[:2], *grid_hw)
    v = (rows_H[:, None] / grid_hw[0] * sizes[..., 0]).expand(shape)
    u = (columns_W / grid_hw[1] * sizes[..., 1]).expand(shape)
    fx, skew, cx = (matrices[:, :, 0, column, None, None] for column in range(3))
    fy, cy = (matrices[:, :, 1, column, None, None] for column in (1, 2))
    y = (v - cy) / fy
    x = (u - cx - skew * y) / fx
    if polynomial_BK is None:
        rays = torch.stack([x, y, torch.ones_like(x)], dim=-1)
        return rays / rays.norm(dim=-1, keepdim=True)
    radius = torch.hypot(x, y)
    angle = torch.zeros_like(radius)
    for coefficient_B in polynomial_BK.double().unbind(dim=1)[::-1]:  # Horner
        angle = angle * radius + coefficient_B[:, None, None, None]
    sideways = angle.sin() / radius.clamp(min=1e-12)
    return torch.stack([x * sideways, y * sideways, angle.cos()], dim=-1)


def plucker(relative_BT44: Tensor, rays_BTHW3: Tensor) -> Tensor:
    """Plücker coordinates ``(c x r, r)`` of rays, ``(B, 6, T, H, W)``.

    Args:
        relative_BT44: camera-to-world matrices, as :func:`relative_poses` returns them.
        rays_BTHW3: unit rays in each camera's own axes.
    """
    turned_BTHW3 = torch.einsum("btij,bthwj->bthwi", relative_BT44[:, :, :3, :3], rays_BTHW3)
    position_BTHW3 = relative_BT44[:, :, None, None, :3, 3].expand_as(turned_BTHW3)
    moment_BTHW3 = torch.linalg.cross(position_BTHW3, turned_BTHW3)
    return torch.cat([moment_BTHW3, turned_BTHW3], dim=-1).permute(0, 4, 1, 2, 3)


def waves(values_BCTHW: Tensor, num_frequencies: int) -> Tensor:
    """Values with sines and cosines of them, ``(B, C (1 + 2 F), T, H, W)``.

    Rays of neighbouring frames differ by hundredths, which a small network takes long to tell
    apart. Waves of a length of 2, 1, 1/2 and so on spread them (Mildenhall et al., "NeRF", arXiv
    2003.08934, section 5.1).

    Args:
        values_BCTHW: Plücker coordinates.
        num_frequencies: F.
    """
    parts = [values_BCTHW]
    for number in range(num_frequencies):
        angles_BCTHW = math.pi * 2**number * values_BCTHW
        parts += [angles_BCTHW.sin(), angles_BCTHW.cos()]
    return torch.cat(parts, dim=1)


def first_frame_places(
    relative_BT44: Tensor, intrinsics_BT33: Tensor, size_B2: Tensor, grid_hw: tuple[int, int]
) -> Tensor:
    """Where on the first frame the view of each cell was, for what is far away; float64.

    A picture's far things move with the camera's turn and zoom alone, in a way that needs no depth
    (the infinite homography: Hartley and Zisserman, "Multiple View Geometry", section 13.4).

    Args:
        relative_BT44: camera-to-world matrices seen from the first camera.
        intrinsics_BT33: of pinhole cameras, in pixels; those of the first camera come first.
        size_B2: height and width of the picture in pixels.
        grid_hw: rows and columns of the grid that covers the picture.

    Returns:
        ``(B, T, H, W, 2)``: x and y, from -1 at the left and upper edge of the first frame to 1 at
        the others. Beyond that the first frame does not show it.
    """
    rays_BTHW3 = camera_rays(intrinsics_BT33, size_B2, grid_hw)
    seen_BTHW3 = torch.einsum("btij,bthwj->bthwi", relative_BT44[:, :, :3, :3], rays_BTHW3)
    # A ray to behind the first camera leaves its picture on the side to which it goes.
    ahead_BTHW1 = seen_BTHW3[..., 2:].clamp(min=_BEHIND)
    on_plane_BTHW3 = torch.cat(
        [seen_BTHW3[..., :2] / ahead_BTHW1, torch.ones_like(ahead_BTHW1)], -1
    )
    first_B33 = intrinsics_BT33[:, 0].double()
    x, y, _ = torch.einsum("bij,bthwj->bthwi", first_B33, on_plane_BTHW3).unbind(dim=-1)
    height_B, width_B = (size_B2.double()[:, axis, None, None, None] for axis in (0, 1))
    return torch.stack([2 * x / width_B - 1, 2 * y / height_B - 1], dim=-1)


def carried(first_BCHW: Tensor, places_BTHW2: Tensor) -> Tensor:
    """The first frame as it is seen from later cameras, ``(B, C, T, H, W)``.

    What it did not show is continued from its edge.

    Args:
        first_BCHW: the first frame, or its latent.
        places_BTHW2: what :func:`first_frame_places` returns.
    """
    num_frames = places_BTHW2.shape[1]
    frames = first_BCHW.float().repeat_interleave(num_frames, dim=0)
    places = places_BTHW2.flatten(0, 1).float()
    seen = F.grid_sample(frames, places, padding_mode="border", align_corners=False)
    return seen.unflatten(0, (-1, num_frames)).transpose(1, 2)
