"""The scene: a robot at a wooden table with coloured blocks, seen by one fixed camera.

World axes: x leads away from the robot's base, to the right of the picture; y leads away from the
camera; z leads up, with the table top at 0. Metres and radians throughout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.platform import require
from post_training.robotics.simulation.robot import robot_spec

if TYPE_CHECKING:
    from types import ModuleType

    from mujoco import MjData, MjModel, MjSpec

BLOCK_HALF_M = 0.031
MAX_NUM_BLOCKS = 3
TIMESTEP_S = 0.002

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.83, 0.10, 0.09),
    "green": (0.12, 0.56, 0.19),
    "blue": (0.10, 0.24, 0.78),
    "yellow": (0.95, 0.77, 0.08),
}

WORKSPACE_LOW_M = np.array([0.34, -0.20, 0.02])
WORKSPACE_HIGH_M = np.array([0.66, 0.20, 0.34])
"""Limits of the point between the finger tips."""

CAMERA_NAME = "main"
SUPERSAMPLE = 2
"""Pictures are drawn this many times larger and averaged down, which smooths their edges."""

_BACKGROUND_RGB = (0.42, 0.52, 0.58)
_TABLE_CENTER_M = (0.28, 0.05)
_TABLE_HALF_M = (0.62, 0.50)
_TABLE_THICKNESS_M = 0.05
_TEXTURE_SIDE = 256
_PARKED_M = (-3.0, -3.0)  # an unused block lies here, behind the camera


@dataclass(frozen=True)
class Camera:
    """A fixed pinhole camera.

    Attributes:
        position_m: position of the camera.
        target_m: point that it looks at.
        fov_y_deg: vertical field of view.
    """

    position_m: tuple[float, float, float] = (0.80, -1.38, 0.78)
    target_m: tuple[float, float, float] = (0.335, 0.02, 0.27)
    fov_y_deg: float = 34.0

    def axes(self) -> np.ndarray:
        """Rows: the picture's right, the picture's up, and backwards, as unit vectors."""
        back = np.subtract(self.position_m, self.target_m)
        back = back / np.linalg.norm(back)
        right = np.cross([0.0, 0.0, 1.0], back)
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])

    def describe(self) -> JsonObject:
        """Return plain data for the episode's JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Block:
    """A cube on the table.

    Attributes:
        color: a key of :data:`COLORS`.
        x_m: centre.
        y_m: centre.
        yaw_rad: turn about the vertical.
    """

    color: str
    x_m: float
    y_m: float
    yaw_rad: float = 0.0


def build_model(camera: Camera | None = None) -> MjModel:
    """Compile the scene; blocks are placed and coloured afterwards by :func:`place_blocks`."""
    mujoco = require("mujoco")
    spec = robot_spec()
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10  # a held block does not slip
    _add_look(mujoco, spec)
    _add_table(mujoco, spec)
    for index in range(MAX_NUM_BLOCKS):
        _add_block(mujoco, spec, index)
    view = camera or Camera()
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, view.axes().T.ravel())
    spec.worldbody.add_camera(
        name=CAMERA_NAME,
        pos=list(view.position_m),
        quat=quaternion,
        fovy=view.fov_y_deg,
    )
    return spec.compile()


def place_blocks(model: MjModel, data: MjData, blocks: list[Block]) -> None:
    """Put the blocks of an episode onto the table; the others leave the picture.

    Args:
        model: the model of :func:`build_model`; its block colours change.
        data: its state; call ``mj_forward`` afterwards.
        blocks: the episode's blocks, at most :data:`MAX_NUM_BLOCKS`.
    """
    for index in range(MAX_NUM_BLOCKS):
        joint = data.joint(f"block{index}")
        if index < len(blocks):
            block = blocks[index]
            model.geom(f"block{index}").rgba[:3] = COLORS[block.color]
            xy, yaw = (block.x_m, block.y_m), block.yaw_rad
        else:
            xy, yaw = (_PARKED_M[0], _PARKED_M[1] - index), 0.0
        joint.qpos[:] = [*xy, BLOCK_HALF_M, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        joint.qvel[:] = 0


def block_position_m(data: MjData, index: int) -> np.ndarray:
    """Centre of a block, world coordinates."""
    return data.body(f"block{index}").xpos.copy()


def _add_look(mujoco: ModuleType, spec: MjSpec) -> None:
    """Light and background; matte, so that every renderer can show the same."""
    visual = spec.visual
    visual.headlight.ambient = [0.34] * 3
    visual.headlight.diffuse = [0.26] * 3
    visual.headlight.specular = [0.0] * 3
    visual.quality.shadowsize = 1024
    visual.quality.offsamples = 0  # frames are rendered large and averaged down instead
    visual.map.shadowscale = 0.8
    spec.add_texture(
        name="background",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=list(_BACKGROUND_RGB),
        rgb2=list(_BACKGROUND_RGB),
        width=8,
        height=8,
    )
    spec.worldbody.add_light(
        name="sun",
        pos=[0.9, -0.9, 2.4],
        dir=[-0.32, 0.34, -1.0],
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        castshadow=True,
        ambient=[0.0] * 3,
        diffuse=[0.52] * 3,
        specular=[0.0] * 3,
    )


def _add_table(mujoco: ModuleType, spec: MjSpec) -> None:
    spec.add_texture(
        name="wood",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=_TEXTURE_SIDE,
        height=_TEXTURE_SIDE,
        nchannel=3,
        data=wood_texture(_TEXTURE_SIDE).ravel().tolist(),
    )
    material = spec.add_material(name="wood", specular=0.0, shininess=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "wood"
    spec.worldbody.add_geom(
        name="table_top",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=[*_TABLE_CENTER_M, 0],
        size=[*_TABLE_HALF_M, 0.1],
        material="wood",
        friction=[0.4, 0.005, 0.0001],
    )
    spec.worldbody.add_geom(
        name="table_body",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[*_TABLE_CENTER_M, -_TABLE_THICKNESS_M / 2 - 0.001],
        size=[*_TABLE_HALF_M, _TABLE_THICKNESS_M / 2],
        rgba=[0.45, 0.32, 0.21, 1],
        contype=0,
        conaffinity=0,
    )


def _add_block(mujoco: ModuleType, spec: MjSpec, index: int) -> None:
    body = spec.worldbody.add_body(name=f"block{index}", pos=[*_PARKED_M, BLOCK_HALF_M])
    body.add_freejoint(name=f"block{index}")
    body.add_geom(
        name=f"block{index}",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[BLOCK_HALF_M] * 3,
        mass=0.08,
        friction=[0.4, 0.02, 0.0005],
        condim=4,
        rgba=[0.5, 0.5, 0.5, 1],
    )


def wood_texture(side: int) -> np.ndarray:
    """Planks with a faint grain, ``(side, side, 3)`` uint8, the same on every machine."""
    across, along = np.meshgrid(np.arange(side) / side, np.arange(side) / side, indexing="ij")
    plank = np.floor(across * 6)
    wave = 0.012 * np.sin(2 * np.pi * (along + 0.37 * plank))
    grain = np.sin(2 * np.pi * 34 * (across + wave)) * np.sin(2 * np.pi * (9 * across + plank))
    shade = 1 + 0.03 * grain + 0.035 * np.cos(2.4 * plank)
    seam = np.abs(across * 6 - np.round(across * 6)) < 6 / side
    shade = np.where(seam, 0.86, shade)
    wood_rgb = np.array([0.76, 0.59, 0.41])
    return np.clip(shade[..., None] * wood_rgb * 255, 0, 255).astype(np.uint8)
