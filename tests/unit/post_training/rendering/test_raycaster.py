from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import has, require
from post_training.rendering import (
    Camera,
    add_camera,
    add_floor,
    add_look,
    prepare_environment,
    tile_texture,
)
from post_training.rendering.raycaster import RayCaster
from post_training.rendering.shapes import intersect, second_color

pytestmark = pytest.mark.skipif(not has("mujoco"), reason="MuJoCo is not installed (extra 'sim')")


def _kind(name):
    prepare_environment("software")
    return int(getattr(require("mujoco").mjtGeom, f"mjGEOM_{name}"))


@pytest.mark.parametrize(
    ("name", "size", "origin", "ray", "depth", "normal"),
    [
        ("SPHERE", [0.5, 0, 0], [0, -3, 0], [0, 1, 0], 2.5, [0, -1, 0]),
        ("SPHERE", [0.5, 0, 0], [0, -3, 0.6], [0, 1, 0], np.inf, [0, 0, 0]),
        ("SPHERE", [0.5, 0, 0], [0, 3, 0], [0, 1, 0], np.inf, [0, 0, 0]),
        ("BOX", [1, 2, 3], [0, -5, 1], [0, 1, 0], 3, [0, -1, 0]),
        ("BOX", [1, 2, 3], [0.5, 0, 9], [0, 0, -1], 6, [0, 0, 1]),
        ("BOX", [1, 2, 3], [1.5, -5, 0], [0, 1, 0], np.inf, None),
        ("CYLINDER", [1, 2, 0], [-4, 0, 1], [1, 0, 0], 3, [-1, 0, 0]),
        ("CYLINDER", [1, 2, 0], [0.5, 0, 5], [0, 0, -1], 3, [0, 0, 1]),
        ("CYLINDER", [1, 2, 0], [-4, 0, 2.5], [1, 0, 0], np.inf, [0, 0, 0]),
    ],
)
def test_rays_meet_shapes_where_geometry_says(name, size, origin, ray, depth, normal):
    found, direction = intersect(
        _kind(name),
        np.array(size, float),
        np.array(origin, np.float32),
        np.array([ray], np.float32),
    )
    assert found[0] == pytest.approx(depth)
    if normal is not None:
        np.testing.assert_allclose(direction[0], normal, atol=1e-6)


def test_a_shape_that_is_not_drawn_is_refused():
    with pytest.raises(ConfigError, match="spheres, boxes and cylinders"):
        intersect(_kind("ELLIPSOID"), np.ones(3), np.zeros(3, np.float32), np.eye(3)[:1])


def test_a_rotation_shows():
    points = np.array([[0.5, 0, 0.1], [0.1, 0, 0.5]], np.float32)
    assert second_color(_kind("SPHERE"), np.array([0.5, 0, 0]), points).tolist() == [False, True]


def _scene(with_board=False, ball_m=(0.2, 0, 0.5)):
    prepare_environment("software")
    mujoco = require("mujoco")
    spec = mujoco.MjSpec()
    add_look(spec)
    add_floor(spec, "floor", tile_texture(64), (0, 0), (2, 2))
    body = spec.worldbody.add_body(name="ball", pos=list(ball_m))
    body.add_geom(
        name="ball", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.3, 0, 0], rgba=[0.9, 0.1, 0.1, 1]
    )
    if with_board:
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.5, 0.02, 1], pos=[0.7, -1, 1]
        )
    add_camera(spec, Camera((0, -5, 1.2), (0, 0, 0.8), 30))
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return RayCaster(model, 72, 96, {"ball": 1}), data


def test_the_mask_is_where_the_projection_puts_the_ball():
    caster, data = _scene()
    sight = caster.look(data)
    rows, columns = np.nonzero(sight.mask_HW == 1)
    x, y, w = caster.projection(data) @ [0.2, 0, 0.5, 1]
    assert (columns.mean() + 0.5) / 96 == pytest.approx(x / w, abs=0.003)
    assert (rows.mean() + 0.5) / 72 == pytest.approx(y / w, abs=0.003)
    # A ball of 0.3 m, 5 m away, under 30 degrees for 72 pixels.
    radius_px = 0.3 / w / (2 * np.tan(np.deg2rad(15))) * 72
    assert sight.area_px[0] == pytest.approx(np.pi * radius_px**2, rel=0.03)
    assert sight.visible_px[0] == pytest.approx(sight.area_px[0])
    assert not sight.is_cut[0]
    red, green, _ = np.moveaxis(sight.picture_HWC.astype(int), -1, 0)
    np.testing.assert_array_equal(red > 2 * green, sight.mask_HW == 1)


def test_what_is_before_a_ball_hides_it_and_the_border_cuts_it():
    caster, data = _scene(with_board=True)
    half = caster.look(data)
    assert 0.1 < half.visible_px[0] / half.area_px[0] < 0.9
    caster, data = _scene(ball_m=(1.8, 0, 0.5))
    assert caster.look(data).is_cut[0]


def test_a_ball_throws_a_shadow_on_the_floor():
    caster, data = _scene()
    there_HW3 = caster.look(data).picture_HWC.astype(int)
    data.geom_xpos[1] += [0, 0, 90]
    gone_HW3 = caster.look(data).picture_HWC.astype(int)
    darker = (gone_HW3 - there_HW3).min(-1) > 20
    assert 40 < darker.sum() < 400
