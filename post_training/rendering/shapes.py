"""Where rays meet simple shapes, in the shape's own axes; cylinders stand along their z.

All take an origin ``(3,)`` or one for each ray, and rays ``(..., 3)``; they give the depth of the
first point in front of the origin, infinite for a miss, and the outer normal there. Sizes are
MuJoCo's: half sides, radius, and radius and half length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import require

Floats = NDArray[np.float32]

_NUM_SECTORS = 6
_BAND = 0.45  # share of a box's face that is of the second colour


def intersect(
    kind: int, size: NDArray[np.float64], origin: Floats, rays: Floats
) -> tuple[Floats, Floats]:
    """Meet a shape.

    Args:
        kind: MuJoCo's number of the type of geom.
        size: MuJoCo's sizes of the geom.
        origin: where the rays start.
        rays: unit directions.

    Returns:
        depths and normals.

    Raises:
        ConfigError: the shape is none of sphere, box and cylinder.
    """
    kinds = require("mujoco").mjtGeom
    # A ray along a face divides by zero; the infinities come out right in the comparisons.
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == kinds.mjGEOM_SPHERE:
            return _sphere(float(size[0]), origin, rays)
        if kind == kinds.mjGEOM_BOX:
            return _box(size.astype(np.float32), origin, rays)
        if kind == kinds.mjGEOM_CYLINDER:
            return _cylinder(float(size[0]), float(size[1]), origin, rays)
    raise ConfigError(
        f"The exact renderer draws spheres, boxes and cylinders; the scene has a geom of type "
        f"{kind}. Build it from those, or use the renderer of meshes."
    )


def second_color(kind: int, size: NDArray[np.float64], points_P3: Floats) -> NDArray[np.bool_]:
    """Where a shape's surface is of its second colour ``(P,)``: sectors, or the middle of faces.

    Args:
        kind: MuJoCo's number of the type of geom.
        size: MuJoCo's sizes of the geom.
        points_P3: points on its surface.
    """
    kinds = require("mujoco").mjtGeom
    if kind == kinds.mjGEOM_BOX:
        share = np.sort(np.abs(points_P3) / size, axis=1)
        return np.asarray(share[:, 1] < _BAND)  # the largest share, 1, is the face's own axis
    across = points_P3[:, 2] if kind == kinds.mjGEOM_SPHERE else points_P3[:, 1]
    turn = np.arctan2(points_P3[:, 0], across) / (2 * np.pi)
    return np.asarray(np.floor(turn * _NUM_SECTORS) % 2 == 0)


def _sphere(radius: float, origin: Floats, rays: Floats) -> tuple[Floats, Floats]:
    middle = -(origin * rays).sum(-1)
    rest = middle * middle - (origin * origin).sum(-1) + radius * radius
    depth = middle - np.sqrt(rest)  # NaN, which compares false, for a miss
    depth = np.where(depth > 0, depth, np.inf).astype(np.float32)
    normal = np.where(np.isfinite(depth)[..., None], (origin + depth[..., None] * rays), 0) / radius
    return depth, normal.astype(np.float32)


def _box(half: Floats, origin: Floats, rays: Floats) -> tuple[Floats, Floats]:
    inverse = 1 / rays
    one, other = (-half - origin) * inverse, (half - origin) * inverse
    enter, leave = np.minimum(one, other), np.maximum(one, other)
    axis = enter.argmax(-1)
    depth = enter.max(-1)
    hit = (depth <= leave.min(-1)) & (depth > 0)
    normal = np.zeros_like(rays)
    toward = np.take_along_axis(np.broadcast_to(rays, enter.shape), axis[..., None], -1)
    np.put_along_axis(normal, axis[..., None], -np.sign(toward), -1)
    return np.where(hit, depth, np.inf).astype(np.float32), normal


def _cylinder(
    radius: float, half_length: float, origin: Floats, rays: Floats
) -> tuple[Floats, Floats]:
    xy, way = origin[..., :2], rays[..., :2]
    a = (way * way).sum(-1)
    b = (xy * way).sum(-1)
    c = (xy * xy).sum(-1) - radius * radius
    root = np.sqrt(b * b - a * c)
    side = (-b - root) / a
    at_side = origin[..., 2] + side * rays[..., 2]
    side = np.where((side > 0) & (np.abs(at_side) <= half_length), side, np.inf)
    cap = (-np.sign(rays[..., 2]) * half_length - origin[..., 2]) / rays[..., 2]
    at_cap = xy + cap[..., None] * way
    cap = np.where((cap > 0) & ((at_cap * at_cap).sum(-1) <= radius * radius), cap, np.inf)
    depth = np.minimum(side, cap).astype(np.float32)
    normal = np.zeros_like(rays)
    on_side, on_cap = np.isfinite(depth) & (side < cap), np.isfinite(depth) & (cap <= side)
    point = xy + np.where(on_side, side, 0)[..., None] * way
    normal[..., :2] = np.where(on_side[..., None], point / radius, 0)
    normal[..., 2] = np.where(on_cap, -np.sign(rays[..., 2]), 0)
    return depth, normal
