"""A fixed pinhole camera. World axes: z leads up; metres and degrees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.platform import require

if TYPE_CHECKING:
    from mujoco import MjSpec

CAMERA_NAME = "main"
SUPERSAMPLE = 2
"""Pictures are drawn this many times larger and averaged down, which smooths their edges."""


@dataclass(frozen=True)
class Camera:
    """A fixed pinhole camera.

    Attributes:
        position_m: position of the camera.
        target_m: point that it looks at.
        fov_y_deg: vertical field of view.
    """

    position_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    fov_y_deg: float = 34.0

    def axes(self) -> np.ndarray:
        """Rows: the picture's right, the picture's up, and backwards, as unit vectors."""
        back = np.subtract(self.position_m, self.target_m)
        back = back / np.linalg.norm(back)
        right = np.cross([0.0, 0.0, 1.0], back)
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])

    def describe(self) -> JsonObject:
        """Return plain data for a recording's JSON."""
        return asdict(self)


def add_camera(spec: MjSpec, camera: Camera) -> None:
    """Put a camera into a scene, under the name that the renderers look for.

    Args:
        spec: the scene.
        camera: the camera.
    """
    quaternion = np.zeros(4)
    require("mujoco").mju_mat2Quat(quaternion, camera.axes().T.ravel())
    spec.worldbody.add_camera(
        name=CAMERA_NAME,
        pos=list(camera.position_m),
        quat=quaternion,
        fovy=camera.fov_y_deg,
    )
