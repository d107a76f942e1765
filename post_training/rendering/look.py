"""What scenes look like: light, background and a textured floor.

All is matte, so that every renderer can show the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nemo_cosmos.platform import require

if TYPE_CHECKING:
    from mujoco import MjModel, MjsGeom, MjSpec

HIDDEN_GROUP = 4
"""Geom and site group that no renderer draws (contact shapes)."""

SUN_NAME = "sun"
BACKGROUND_NAME = "background"
_BACKGROUND_RGB = (0.42, 0.52, 0.58)


def add_look(spec: MjSpec) -> None:
    """Add the background, a directional light and a weak one at the camera.

    Args:
        spec: the scene.
    """
    mujoco = require("mujoco")
    visual = spec.visual
    visual.headlight.ambient = [0.34] * 3
    visual.headlight.diffuse = [0.26] * 3
    visual.headlight.specular = [0.0] * 3
    visual.quality.shadowsize = 1024
    visual.quality.offsamples = 0  # frames are rendered large and averaged down instead
    visual.map.shadowscale = 0.8
    spec.add_texture(
        name=BACKGROUND_NAME,
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=list(_BACKGROUND_RGB),
        rgb2=list(_BACKGROUND_RGB),
        width=8,
        height=8,
    )
    spec.worldbody.add_light(
        name=SUN_NAME,
        pos=[0.9, -0.9, 2.4],
        dir=[-0.32, 0.34, -1.0],
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        castshadow=True,
        ambient=[0.0] * 3,
        diffuse=[0.52] * 3,
        specular=[0.0] * 3,
    )


def add_floor(
    spec: MjSpec,
    name: str,
    texture_HWC: np.ndarray,
    center_m: tuple[float, float],
    half_m: tuple[float, float],
) -> MjsGeom:
    """Add a horizontal plane at height 0 that wears a picture; a scene has one.

    Args:
        spec: the scene.
        name: name of the plane; its texture and its material take it, too.
        texture_HWC: uint8 RGB picture, square; its first row lies at the far edge.
        center_m: centre of the plane.
        half_m: half its sides.

    Returns:
        the plane, whose friction may be set.
    """
    mujoco = require("mujoco")
    height, width = texture_HWC.shape[:2]
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=width,
        height=height,
        nchannel=3,
        data=texture_HWC.ravel().tolist(),
    )
    material = spec.add_material(name=name, specular=0.0, shininess=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    return spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=[*center_m, 0],
        size=[*half_m, 0.1],
        material=name,
    )


def floor_of(model: MjModel) -> tuple[int, np.ndarray]:
    """Find the floor of a compiled scene.

    Args:
        model: the scene.

    Returns:
        number of the plane, and its texture, uint8 ``(H, W, 3)``.
    """
    mujoco = require("mujoco")
    floor = int(np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)[0])
    role = mujoco.mjtTextureRole.mjTEXROLE_RGB
    texture = model.texture(model.mat_texid[model.geom_matid[floor], role])
    height, width, first = int(texture.height[0]), int(texture.width[0]), int(texture.adr[0])
    data = model.tex_data[first : first + height * width * 3]
    return floor, data.reshape(height, width, 3)


def background_of(model: MjModel) -> np.ndarray:
    """Colour of the background of a compiled scene, uint8 ``(3,)``.

    Args:
        model: the scene.
    """
    first = model.texture(BACKGROUND_NAME).adr[0]
    return np.asarray(model.tex_data[first : first + 3])


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


def tile_texture(side: int) -> np.ndarray:
    """Pale tiles in two shades with fine joints, ``(side, side, 3)`` uint8, to be repeated.

    Args:
        side: edge in pixels; eight tiles fill it.
    """
    place = (np.arange(side) + 0.5) / side * 8
    row, column = np.meshgrid(place, place, indexing="ij")
    shade = np.where((np.floor(row) + np.floor(column)) % 2 == 0, 0.86, 0.72)
    # Each tile is a little different, as stone is.
    shade = shade + 0.02 * np.sin(12.9 * np.floor(row) + 78.2 * np.floor(column))
    joint = np.minimum(np.abs(row - np.round(row)), np.abs(column - np.round(column))) < 0.03
    shade = np.where(joint, 0.62, shade)
    stone_rgb = np.array([1.0, 0.97, 0.92])
    return np.clip(shade[..., None] * stone_rgb * 255, 0, 255).astype(np.uint8)
