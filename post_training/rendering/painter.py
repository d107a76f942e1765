"""A renderer that needs no system library: MuJoCo's own shapes drawn with OpenCV's polygon fill.

The same scene as OpenGL shows: same camera, colours, lights and floor, triangles sorted from back
to front (painter's algorithm) and shaded one colour each. It leaves out what a 128x96 picture
hardly shows: shadows that fall on anything but the floor, and the true outline of a mesh's shadow,
which is drawn as its convex hull. Moving shapes are meshes and boxes; fixed ones are the floor and
boxes that are seen from the front.

Shape suffixes: V vertices, F triangles, 2 or 3 coordinates, HWC pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from nemo_cosmos.platform import require
from post_training.rendering.camera import CAMERA_NAME, SUPERSAMPLE
from post_training.rendering.look import HIDDEN_GROUP, SUN_NAME, background_of, floor_of

if TYPE_CHECKING:
    from mujoco import MjData, MjModel

# Polygon corners are passed to OpenCV in 1/8 pixel.
_SUBPIXEL_BITS = 3
_BOX_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_BOX_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ]
)  # fmt: skip


class SoftwareRenderer:
    """Pictures of a simulated scene.

    Args:
        model: the compiled scene.
        height: height of the pictures in pixels.
        width: width of the pictures in pixels.
    """

    name = "software"

    def __init__(self, model: MjModel, height: int, width: int) -> None:
        self._model = model
        self._size = (height * SUPERSAMPLE, width * SUPERSAMPLE)
        self._output = (width, height)
        self._camera = model.camera(CAMERA_NAME).id
        self._collect_shapes()
        light = model.light(SUN_NAME)
        self._sun = -light.dir / np.linalg.norm(light.dir)
        self._sun_diffuse = float(light.diffuse[0])
        self._floor, self._floor_texture_HWC = floor_of(model)
        is_box = model.geom_type == require("mujoco").mjtGeom.mjGEOM_BOX
        self._fixed_boxes = np.flatnonzero(is_box & (model.geom_bodyid == 0))
        self._backdrop: tuple[np.ndarray, np.ndarray] | None = None
        self._backdrop_view: bytes | None = None

    def render(self, data: MjData) -> np.ndarray:
        """The picture of a state after ``mj_forward`` or ``mj_step``, uint8 ``(H, W, 3)`` RGB."""
        view = data.cam_xpos.tobytes() + data.cam_xmat.tobytes()
        if self._backdrop is None or self._backdrop_view != view:  # the camera has moved
            self._backdrop, self._backdrop_view = self._draw_backdrop(data), view
        rotations = data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        world_V3 = np.einsum("vij,vj->vi", rotations[self._owner_V], self._vertices_V3)
        world_V3 += data.geom_xpos[self._geoms][self._owner_V]
        lit_HWC, shaded_HWC = self._backdrop
        shadow_HW = self._floor_shadow(data, world_V3)
        picture_HWC = np.where(shadow_HW[..., None] > 0, shaded_HWC, lit_HWC)
        self._draw_triangles(data, picture_HWC, world_V3)
        return cv2.resize(picture_HWC, self._output, interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        """Do nothing: only the other renderers hold resources."""

    def _collect_shapes(self) -> None:
        """Gather the moving shapes once, in the frames of their geoms."""
        kinds = require("mujoco").mjtGeom
        model = self._model
        vertices: list[np.ndarray] = []
        faces: list[np.ndarray] = []
        owners: list[np.ndarray] = []
        geoms: list[int] = []
        first = 0
        for geom in range(model.ngeom):
            is_fixed = model.geom_bodyid[geom] == 0
            if is_fixed or model.geom_group[geom] >= HIDDEN_GROUP:
                continue
            if model.geom_type[geom] == kinds.mjGEOM_MESH:
                mesh = model.geom_dataid[geom]
                part = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
                triangles = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
            else:
                part, triangles = _BOX_CORNERS * model.geom_size[geom], _BOX_FACES
            vertices.append(part)
            faces.append(triangles + first)
            owners.append(np.full(len(part), len(geoms)))
            geoms.append(geom)
            first += len(part)
        self._vertices_V3 = np.concatenate(vertices).astype(np.float64)
        self._faces_F3 = np.concatenate(faces)
        self._owner_V = np.concatenate(owners)
        self._owner_F = self._owner_V[self._faces_F3[:, 0]]
        self._geoms = np.array(geoms)

    def _project(self, data: MjData, world_V3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates ``(V, 2)`` and depth ``(V,)`` in metres, both for the large picture."""
        height, width = self._size
        axes = data.cam_xmat[self._camera].reshape(3, 3)
        local_V3 = (world_V3 - data.cam_xpos[self._camera]) @ axes
        depth_V = -local_V3[:, 2]
        fov_y = np.deg2rad(self._model.cam_fovy[self._camera])
        focal = 0.5 * height / np.tan(0.5 * fov_y)
        x = 0.5 * width + focal * local_V3[:, 0] / depth_V
        y = 0.5 * height - focal * local_V3[:, 1] / depth_V
        return np.stack([x, y], 1) - 0.5, depth_V

    def _shade(self, data: MjData, normals_F3: np.ndarray, centers_F3: np.ndarray) -> np.ndarray:
        """Brightness ``(F,)`` of triangles under the sun and the light at the camera."""
        head = self._model.vis.headlight
        to_camera = data.cam_xpos[self._camera] - centers_F3
        to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
        facing = np.clip((normals_F3 * to_camera).sum(1), 0, 1)
        sun = np.clip(normals_F3 @ self._sun, 0, 1)
        return head.ambient[0] + head.diffuse[0] * facing + self._sun_diffuse * sun

    def _draw_triangles(self, data: MjData, picture_HWC: np.ndarray, world_V3: np.ndarray) -> None:
        corners_F33 = world_V3[self._faces_F3]
        edge, other = corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0]
        normals_F3 = np.cross(edge, other)
        centers_F3 = corners_F33.mean(1)
        looks_here = (normals_F3 * (data.cam_xpos[self._camera] - centers_F3)).sum(1) > 1e-12
        normals_F3, centers_F3 = normals_F3[looks_here], centers_F3[looks_here]
        normals_F3 = normals_F3 / np.linalg.norm(normals_F3, axis=1, keepdims=True)
        shade_F = self._shade(data, normals_F3, centers_F3)
        rgb_F3 = self._model.geom_rgba[self._geoms][self._owner_F[looks_here], :3]
        colors_F3 = np.clip(rgb_F3 * shade_F[:, None] * 255, 0, 255)
        pixels_V2, depth_V = self._project(data, world_V3)
        visible_F3 = self._faces_F3[looks_here]
        order = np.argsort(-depth_V[visible_F3].mean(1))
        corners = _fixed_point(pixels_V2)[visible_F3[order]]
        for corner_32, color in zip(corners, colors_F3[order].tolist(), strict=True):
            cv2.fillConvexPoly(picture_HWC, corner_32, color, shift=_SUBPIXEL_BITS)

    def _floor_shadow(self, data: MjData, world_V3: np.ndarray) -> np.ndarray:
        """Where the sun does not reach the floor: the convex hull of each shape's shadow."""
        mask_HW = np.zeros(self._size, np.uint8)
        height_V = world_V3[:, 2:]
        on_floor_V3 = world_V3 - self._sun * (height_V / self._sun[2])
        pixels_V2, _ = self._project(data, on_floor_V3)
        for shape in range(len(self._geoms)):
            points = _fixed_point(pixels_V2[self._owner_V == shape])
            cv2.fillConvexPoly(mask_HW, cv2.convexHull(points), 255, shift=_SUBPIXEL_BITS)
        return mask_HW

    def _draw_backdrop(self, data: MjData) -> tuple[np.ndarray, np.ndarray]:
        """Background and floor without anything on it, in the sun and all in shadow."""
        model, (height, width) = self._model, self._size
        lit_HWC = np.empty((height, width, 3), np.uint8)
        lit_HWC[:] = background_of(model)
        for box in self._fixed_boxes:
            self._draw_fixed_box(data, lit_HWC, int(box))
        center_m, half_m = model.geom_pos[self._floor], model.geom_size[self._floor]
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * half_m
        pixels_42, _ = self._project(data, corners + center_m)
        texture_HWC = self._floor_texture_HWC
        side_y, side_x = texture_HWC.shape[:2]
        # The image's first row lies at the far edge of the plane.
        source = np.array([[0, side_y], [side_x, side_y], [side_x, 0], [0, 0]], np.float32)
        transform = cv2.getPerspectiveTransform(source, pixels_42.astype(np.float32))
        floor_HWC = cv2.warpPerspective(
            texture_HWC, transform, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        inside_HW = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(inside_HW, _fixed_point(pixels_42), 255, shift=_SUBPIXEL_BITS)
        up = np.array([[0.0, 0.0, 1.0]])
        bright = float(self._shade(data, up, center_m[None])[0])
        dark = bright - self._sun_diffuse * float(self._sun[2]) * model.vis.map.shadowscale
        shaded_HWC = lit_HWC.copy()
        for picture_HWC, shade in ((lit_HWC, bright), (shaded_HWC, dark)):
            floor_lit_HWC = np.clip(floor_HWC * shade, 0, 255).astype(np.uint8)
            picture_HWC[inside_HW > 0] = floor_lit_HWC[inside_HW > 0]
        return lit_HWC, shaded_HWC

    def _draw_fixed_box(self, data: MjData, picture_HWC: np.ndarray, box: int) -> None:
        """A box that stands still: its silhouette, in the colour of its front."""
        model = self._model
        center_m = model.geom_pos[box]
        pixels_82, _ = self._project(data, _BOX_CORNERS * model.geom_size[box] + center_m)
        front = np.array([[0.0, -1.0, 0.0]])
        shade = float(self._shade(data, front, center_m[None])[0])
        hull = cv2.convexHull(_fixed_point(pixels_82))
        color = (np.asarray(model.geom_rgba[box, :3]) * shade * 255).tolist()
        cv2.fillConvexPoly(picture_HWC, hull, color, shift=_SUBPIXEL_BITS)


def _fixed_point(pixels_V2: np.ndarray) -> np.ndarray:
    return np.round(pixels_V2 * (1 << _SUBPIXEL_BITS)).astype(np.int32)
