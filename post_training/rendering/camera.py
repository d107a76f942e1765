"""A fixed pinhole camera. World axes: z leads up; metres and degrees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from nemo_cosmos.aliases import Array, JsonObject
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

    def signal(self, num_frames: int, height: int, width: int) -> dict[str, Array]:
        """The camera as ``camera.npz``: camera to world with OpenCV's axes, and the lens.

        Args:
            num_frames: frames in which it stands still.
            height: height of the pictures in pixels.
            width: width of the pictures in pixels.
        """
        pose = np.eye(4)
        # OpenCV's y leads down and its z forwards.
        pose[:3, :3] = self.axes().T * [1, -1, -1]
        pose[:3, 3] = self.position_m
        focal_px = 0.5 * height / np.tan(0.5 * np.deg2rad(self.fov_y_deg))
        lens = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])
        return {
            "poses": np.tile(pose, (num_frames, 1, 1)),
            "intrinsics": np.tile(lens, (num_frames, 1, 1)),
            "size": np.array([height, width]),
        }

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
