"""An exact renderer of simple shapes, which also says which object each pixel shows.

A ray for each of four samples of a pixel meets spheres, boxes, cylinders and the floor:
outlines, shadows and masks are exact, and the same on every machine, without a system library. The
second colour of a geom (``geom_user``) marks sectors of round shapes and the faces' middle of
boxes, so that a rotation shows.

Shape suffixes: H height and W width of the picture, times :data:`SUPERSAMPLE`; P points; 3 axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from post_training.rendering.camera import CAMERA_NAME, SUPERSAMPLE
from post_training.rendering.look import HIDDEN_GROUP, SUN_NAME, background_of, floor_of
from post_training.rendering.shapes import intersect, second_color

if TYPE_CHECKING:
    from mujoco import MjData, MjModel

Floats = NDArray[np.float32]

NUM_COLORS = 3
"""Numbers of user data of a geom: its second colour."""

_FADE_M = (3.0, 9.0)
"""Distance behind the middle of the scene at which the floor begins to fade, and is gone."""

_OCCLUSION = 0.55
_GLOSS, _SHININESS = 0.22, 40
_SHADOW_GAP_M = 1e-3


@dataclass(frozen=True)
class Sight:
    """What is seen at one moment.

    Attributes:
        picture_HWC: uint8 RGB.
        mask_HW: number of the object at each pixel, from 1; 0 for none.
        area_px: for each object the pixels that its outline would fill if nothing were before it.
        visible_px: number of pixels that show each object.
        is_cut: whether the picture's border cuts each object.
    """

    picture_HWC: NDArray[np.uint8]
    mask_HW: NDArray[np.uint8]
    area_px: Floats
    visible_px: Floats
    is_cut: NDArray[np.bool_]


class RayCaster:
    """Pictures and masks of a scene of simple shapes, seen by a camera that stands still.

    Args:
        model: the compiled scene, with a floor.
        height: height of the pictures in pixels.
        width: width of the pictures in pixels.
        objects: number, from 1, of the object that a geom belongs to, by the geom's name.
    """

    name = "software"

    def __init__(
        self, model: MjModel, height: int, width: int, objects: Mapping[str, int] | None = None
    ) -> None:
        self._model = model
        self._output = (width, height)
        self._floor, self._texture_HWC = floor_of(model)
        hidden = model.geom_group >= HIDDEN_GROUP
        self._geoms = [geom for geom in range(model.ngeom) if geom != self._floor]
        self._geoms = [geom for geom in self._geoms if not hidden[geom]]
        numbers = dict(objects or {})
        self._number = [numbers.get(model.geom(geom).name, 0) for geom in range(model.ngeom)]
        self._num_objects = max(numbers.values(), default=0)
        light = model.light(SUN_NAME)
        self._sun = (-light.dir / np.linalg.norm(light.dir)).astype(np.float32)
        self._sun_diffuse = float(light.diffuse[0]) * float(model.vis.map.shadowscale)
        self._sky = float(light.diffuse[0]) - self._sun_diffuse
        self._view: tuple[NDArray[np.float64], Floats, Floats, Floats] | None = None

    def render(self, data: MjData) -> NDArray[np.uint8]:
        """Picture of a state, uint8 ``(H, W, 3)`` RGB."""
        return self.look(data).picture_HWC

    def close(self) -> None:
        """Do nothing: only OpenGL's renderers hold resources."""

    def look(self, data: MjData) -> Sight:
        """Picture of a state after ``mj_forward``, and what each pixel shows."""
        if self._view is None:
            self._view = self._empty(data)
        origin_3, rays_HW3, *empty = self._view
        height, width = rays_HW3.shape[:2]
        depth_HW, color_HW3 = (array.copy() for array in empty)
        normal_HW3 = np.zeros_like(rays_HW3)
        normal_HW3[..., 2] = 1
        shown_HW = np.where(np.isfinite(depth_HW), self._floor, -1)
        outlines = np.zeros((self._num_objects + 1, height, width), np.float32)
        for geom in self._geoms:
            rows, columns = self._region(data, geom, origin_3, height, width)
            part = rays_HW3[rows, columns]
            if not part.size:
                continue
            found = self._meet(data, geom, origin_3, part)
            if number := self._number[geom]:
                outline = outlines[number, rows, columns]
                np.maximum(outline, np.isfinite(found.depth), out=outline)
            nearer = found.depth < depth_HW[rows, columns]
            depth_HW[rows, columns][nearer] = found.depth[nearer]
            normal_HW3[rows, columns][nearer] = found.normal[nearer]
            color_HW3[rows, columns][nearer] = found.color[nearer]
            shown_HW[rows, columns][nearer] = geom
        lit_HW3 = self._light(data, origin_3, rays_HW3, depth_HW, normal_HW3, color_HW3, shown_HW)
        picture_HWC = cv2.resize(lit_HW3, self._output, interpolation=cv2.INTER_AREA)
        mask_HW, visible_px = self._mask(shown_HW)
        whole = outlines[1:]
        edges = (whole[:, 0], whole[:, -1], whole[:, :, 0], whole[:, :, -1])
        return Sight(
            np.clip(np.round(picture_HWC), 0, 255).astype(np.uint8),
            mask_HW,
            whole.sum((1, 2)) / SUPERSAMPLE**2,
            visible_px,
            np.any([edge.any(1) for edge in edges], axis=0),
        )

    def projection(self, data: MjData) -> NDArray[np.float64]:
        """World to homogeneous picture coordinates, ``(3, 4)``: (0, 0) top left, (1, 1) opposite.

        Args:
            data: a state after ``mj_forward``.
        """
        camera = self._model.camera(CAMERA_NAME).id
        axes = data.cam_xmat[camera].reshape(3, 3)
        focal = 0.5 / np.tan(0.5 * np.deg2rad(self._model.cam_fovy[camera]))
        width, height = self._output
        inner = np.array([[focal * height / width, 0, -0.5], [0, -focal, -0.5], [0, 0, -1.0]])
        turned = inner @ axes.T
        return np.column_stack([turned, -turned @ data.cam_xpos[camera]])

    def _empty(self, data: MjData) -> tuple[NDArray[np.float64], Floats, Floats, Floats]:
        """Where the camera is, each sample's unit ray, and depth and colour without any shape."""
        camera = self._model.camera(CAMERA_NAME).id
        width, height = (side * SUPERSAMPLE for side in self._output)
        tangent = np.tan(0.5 * np.deg2rad(self._model.cam_fovy[camera]))
        x = (2 * (np.arange(width) + 0.5) / width - 1) * tangent * width / height
        y = (1 - 2 * (np.arange(height) + 0.5) / height) * tangent
        local = np.stack([*np.meshgrid(x, y), -np.ones((height, width))], axis=-1)
        rays = local @ data.cam_xmat[camera].reshape(3, 3).T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        origin_3, rays_HW3 = data.cam_xpos[camera].copy(), rays.astype(np.float32)
        depth_HW = self._floor_depth(origin_3, rays_HW3)
        return origin_3, rays_HW3, depth_HW, self._floor_color(origin_3, rays_HW3, depth_HW)

    def _region(
        self, data: MjData, geom: int, origin_3: NDArray[np.float64], height: int, width: int
    ) -> tuple[slice, slice]:
        """Rows and columns that a geom's bounding sphere can fill."""
        center, radius = data.geom_xpos[geom], float(self._model.geom_rbound[geom])
        distance = float(np.linalg.norm(center - origin_3))
        x, y, w = self.projection(data) @ [*center, 1.0]
        if w <= radius:
            return slice(0, height), slice(0, width)
        camera = self._model.camera(CAMERA_NAME).id
        tangent = np.tan(0.5 * np.deg2rad(self._model.cam_fovy[camera]))
        # Away from the axis a sphere's outline grows; twice its size on the axis is plenty.
        reach = radius / max(distance - radius, 1e-6) / tangent * height
        row, column = y / w * height, x / w * width
        low = (max(int(row - reach), 0), max(int(column - reach), 0))
        high = (max(int(row + reach) + 2, 0), max(int(column + reach) + 2, 0))
        return slice(low[0], high[0]), slice(low[1], high[1])

    def _meet(
        self, data: MjData, geom: int, origin_3: NDArray[np.float64], rays: Floats
    ) -> _Surface:
        """Depth, normal and colour where rays meet a geom; infinite depth where they miss."""
        model = self._model
        axes = data.geom_xmat[geom].reshape(3, 3).astype(np.float32)
        local_origin = ((origin_3 - data.geom_xpos[geom]) @ axes).astype(np.float32)
        kind, size = int(model.geom_type[geom]), model.geom_size[geom]
        depth, normal = intersect(kind, size, local_origin, rays @ axes)
        hit = np.isfinite(depth)
        color = np.empty_like(rays)
        color[:] = model.geom_rgba[geom, :3]
        second = model.geom_user[geom] if model.nuser_geom else None
        if second is not None and second.any() and hit.any():
            points = local_origin + depth[hit][:, None] * (rays @ axes)[hit]
            color[hit] = np.where(
                second_color(kind, size, points)[:, None], second, model.geom_rgba[geom, :3]
            )
        return _Surface(depth, normal @ axes.T, color)

    def _floor_depth(self, origin_3: NDArray[np.float64], rays_HW3: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            depth = -origin_3[2] / rays_HW3[..., 2]
        return np.where(rays_HW3[..., 2] < 0, depth, np.inf).astype(np.float32)

    def _floor_color(
        self, origin_3: NDArray[np.float64], rays_HW3: Floats, depth_HW: Floats
    ) -> Floats:
        """The floor's texture, repeated for ever; of the background its colour."""
        color_HW3 = np.empty_like(rays_HW3)
        color_HW3[:] = background_of(self._model) / 255
        below = np.isfinite(depth_HW)
        points = origin_3[:2] + depth_HW[below][:, None] * rays_HW3[below][:, :2]
        half = self._model.geom_size[self._floor, :2]
        side_y, side_x = self._texture_HWC.shape[:2]
        along = (points - self._model.geom_pos[self._floor, :2]) / (2 * half) + 0.5
        column = np.floor(along[:, 0] * side_x).astype(int) % side_x
        row = np.floor((1 - along[:, 1]) * side_y).astype(int) % side_y
        color_HW3[below] = self._texture_HWC[row, column] / 255
        return color_HW3

    def _light(
        self,
        data: MjData,
        origin_3: NDArray[np.float64],
        rays_HW3: Floats,
        depth_HW: Floats,
        normal_HW3: Floats,
        color_HW3: Floats,
        shown_HW: NDArray[np.intp],
    ) -> Floats:
        """Colour of each sample, 0 to 255: sky, sun with shadows, gloss, and the floor's fading."""
        head = self._model.vis.headlight
        seen = np.isfinite(depth_HW)
        rays, normals = rays_HW3[seen], normal_HW3[seen]
        points = (origin_3 + depth_HW[seen][:, None] * rays).astype(np.float32)
        facing = np.clip(-(normals * rays).sum(1), 0, 1)
        towards_sun = np.clip(normals @ self._sun, 0, 1)
        sunny = towards_sun * self._sunny(data, points + _SHADOW_GAP_M * normals, towards_sun > 0)
        open_sky = self._openness(data, points, normals, shown_HW[seen])
        ambient = float(head.ambient[0]) + float(head.diffuse[0]) * facing
        shade = (ambient + self._sky * towards_sun) * open_sky + self._sun_diffuse * sunny
        lit = color_HW3[seen] * shade[:, None]
        half_way = self._sun - rays
        half_way /= np.linalg.norm(half_way, axis=1, keepdims=True)
        gloss = np.clip((normals * half_way).sum(1), 0, 1) ** _SHININESS
        is_floor = shown_HW[seen] == self._floor
        lit += (_GLOSS * gloss * sunny * ~is_floor)[:, None]
        near, far = _FADE_M
        fading = np.clip((points[:, 1] - near) / (far - near), 0, 1)[:, None] * is_floor[:, None]
        background = (background_of(self._model) / 255).astype(np.float32)
        picture = np.empty_like(color_HW3)
        # A wall that is lighter further up.
        rise = np.clip(rays_HW3[..., 2:] * 2.2, 0, 1)
        picture[:] = background + (1 - background) * 0.45 * rise
        picture[seen] = lit + fading * (background - lit)
        return np.asarray(np.clip(picture * 255, 0, 255), np.float32)

    def _sunny(self, data: MjData, points_P3: Floats, asked_P: NDArray[np.bool_]) -> Floats:
        """1 where the sun reaches a point, 0 in a shadow."""
        result = np.ones(len(points_P3), np.float32)
        for geom in self._geoms:
            away = data.geom_xpos[geom].astype(np.float32) - points_P3
            along = away @ self._sun
            off_axis_sq = (away * away).sum(1) - along * along
            radius = float(self._model.geom_rbound[geom])
            near = asked_P & (off_axis_sq < radius * radius) & (along > -radius)
            if not near.any():
                continue
            axes = data.geom_xmat[geom].reshape(3, 3).astype(np.float32)
            origins = -away[near] @ axes
            directions = np.broadcast_to(self._sun @ axes, origins.shape)
            kind, size = int(self._model.geom_type[geom]), self._model.geom_size[geom]
            depth, _ = intersect(kind, size, origins, directions)
            result[np.flatnonzero(near)[np.isfinite(depth)]] = 0
        return result

    def _openness(
        self, data: MjData, points_P3: Floats, normals_P3: Floats, shown_P: NDArray[np.intp]
    ) -> Floats:
        """How much of the sky a point sees: darker near and below other shapes.

        Each shape counts as a sphere (Quilez, "sphere ambient occlusion"), so that things stand on
        the floor and do not seem to hover above it.
        """
        result = np.ones(len(points_P3), np.float32)
        for geom in self._geoms:
            if self._model.geom_bodyid[geom] == 0:  # large fixed shapes are no spheres
                continue
            radius = float(np.cbrt(np.prod(np.maximum(self._model.geom_size[geom], 1e-3))))
            radius = float(self._model.geom_size[geom, 0]) if radius < 0.03 else radius
            away = data.geom_xpos[geom].astype(np.float32) - points_P3
            distance_sq = (away * away).sum(1)
            near = (distance_sq < (4 * radius) ** 2) & (shown_P != geom)
            if not near.any():
                continue
            distance = np.sqrt(distance_sq[near])
            above = np.clip((normals_P3[near] * away[near]).sum(1) / distance, 0, 1)
            covered = above * np.minimum(radius * radius / distance_sq[near], 1)
            result[near] *= 1 - _OCCLUSION * covered
        return result

    def _mask(self, shown_HW: NDArray[np.intp]) -> tuple[NDArray[np.uint8], Floats]:
        """Number of the object that fills most of each pixel, and the pixels of each object."""
        numbers_HW = np.asarray(self._number)[shown_HW] * (shown_HW >= 0)
        shares = np.stack(
            [
                cv2.resize(
                    (numbers_HW == number).astype(np.float32),
                    self._output,
                    interpolation=cv2.INTER_AREA,
                )
                for number in range(self._num_objects + 1)
            ]
        )
        return shares.argmax(0).astype(np.uint8), shares[1:].sum((1, 2))


@dataclass(frozen=True)
class _Surface:
    """What rays meet: depth ``(...)``, normal and colour ``(..., 3)``."""

    depth: Floats
    normal: Floats
    color: Floats
