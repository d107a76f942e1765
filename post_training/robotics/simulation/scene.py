"""The scene: a robot at a wooden table with coloured blocks, seen by one fixed camera.

World axes: x leads away from the robot's base, to the right of the picture; y leads away from the
camera; z leads up, with the table top at 0. Metres and radians throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nemo_cosmos.platform import require
from post_training.rendering import Camera, add_camera, add_floor, add_look, wood_texture
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

CAMERA = Camera(position_m=(0.80, -1.38, 0.78), target_m=(0.335, 0.02, 0.27), fov_y_deg=34.0)

_TABLE_CENTER_M = (0.28, 0.05)
_TABLE_HALF_M = (0.62, 0.50)
_TABLE_THICKNESS_M = 0.05
_TEXTURE_SIDE = 256
_PARKED_M = (-3.0, -3.0)  # an unused block lies here, behind the camera


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


def build_model(camera: Camera = CAMERA) -> MjModel:
    """Compile the scene; blocks are placed and coloured afterwards by :func:`place_blocks`."""
    mujoco = require("mujoco")
    spec = robot_spec()
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10  # a held block does not slip
    add_look(spec)
    _add_table(mujoco, spec)
    for index in range(MAX_NUM_BLOCKS):
        _add_block(mujoco, spec, index)
    add_camera(spec, camera)
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


def _add_table(mujoco: ModuleType, spec: MjSpec) -> None:
    texture_HWC = wood_texture(_TEXTURE_SIDE)
    top = add_floor(spec, "table_top", texture_HWC, _TABLE_CENTER_M, _TABLE_HALF_M)
    top.friction = [0.4, 0.005, 0.0001]
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
