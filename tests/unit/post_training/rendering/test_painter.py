from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.platform import has, require
from post_training.rendering import (
    Camera,
    add_camera,
    add_floor,
    add_look,
    prepare_environment,
    wood_texture,
)
from post_training.rendering.painter import SoftwareRenderer

pytestmark = pytest.mark.skipif(not has("mujoco"), reason="MuJoCo is not installed (extra 'sim')")


@pytest.fixture(name="scene")
def _scene():
    """A red cube above the middle of a wooden floor, which is no robot's table."""
    prepare_environment("software")
    mujoco = require("mujoco")
    spec = mujoco.MjSpec()
    add_look(spec)
    add_floor(spec, "ground", wood_texture(64), (0.0, 0.0), (1.0, 1.0))
    body = spec.worldbody.add_body(name="cube", pos=[0, 0, 0.3])
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1] * 3, rgba=[1, 0, 0, 1])
    add_camera(spec, Camera((0.0, -2.0, 1.0), (0.0, 0.0, 0.2)))
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def _red(picture_HWC: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(picture_HWC.astype(int), -1, 0)
    return (red > 2 * green) & (red > 2 * blue)


def test_any_scene_with_a_floor_is_drawn_with_a_shadow(scene):
    model, data = scene
    picture_HWC = SoftwareRenderer(model, 48, 64).render(data)
    rows, columns = np.nonzero(_red(picture_HWC))
    assert 60 < len(rows) < 400
    assert abs(columns.mean() - 31.5) < 1
    data.geom_xpos[1] += [0, 0, 50]
    empty_HWC = SoftwareRenderer(model, 48, 64).render(data)
    changed = np.abs(picture_HWC.astype(int) - empty_HWC).max(-1) > 8
    shadow = changed & ~_red(picture_HWC)
    assert shadow.sum() > 40
    assert (picture_HWC[shadow].astype(int) < empty_HWC[shadow]).mean() > 0.95


def test_a_camera_that_moves_takes_the_floor_along(scene):
    model, data = scene
    renderer = SoftwareRenderer(model, 48, 64)
    renderer.render(data)
    data.cam_xpos[0] += [0.3, 0, 0]
    moved_HWC = renderer.render(data)
    np.testing.assert_array_equal(moved_HWC, SoftwareRenderer(model, 48, 64).render(data))
