"""The rig of a car's cameras: what is refused, and how it follows resized pictures."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.controls import RIG, fit_recorded
from nemo_cosmos.controls.camera import pixel_rays
from nemo_cosmos.controls.rig import camera_of
from nemo_cosmos.errors import SampleError


def rig(num_views=3):
    matrix_33 = np.array([[300.0, 0, 320], [0, 300, 180], [0, 0, 1]])
    poses_V44 = np.tile(np.eye(4), (num_views, 1, 1))
    poses_V44[:, :3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    poses_V44[:, :3, 3] = [1.5, 0.0, 1.6]
    return {
        "poses": poses_V44,
        "intrinsics": np.tile(matrix_33, (num_views, 1, 1)),
        "size": np.tile([360.0, 640.0], (num_views, 1)),
    }


def changed(name, change):
    values = {key: array.copy() for key, array in rig().items()}
    change(values[name])
    return values


def scale(poses):
    poses[1, :3, :3] *= 2


def move(poses):
    poses[2, :3, 3] = 150


def normalise(matrices):
    matrices[1, :2] /= 640


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (changed("poses", scale), r"holds no rotation .*\(view 1\)"),
        (changed("poses", move), r"view 2 260 m from the vehicle's origin"),
        (changed("intrinsics", normalise), r"Intrinsics are in pixels.*\(view 1\)"),
        ({**rig(), "size": rig(2)["size"]}, "rows for different numbers of views"),
        (rig(8), "1 to 7 views"),
        ({**rig(), "model": np.array(["ftheta", "mei", "ftheta"])}, "a lens that this signal"),
        ({**rig(), "angle_polynomial": np.array([[0, -1.0]] * 3)}, "does not grow"),
    ],
)
def test_a_rig_that_cannot_be_is_refused(values, reason):
    with pytest.raises(SampleError, match=reason):
        RIG.check(values, 9, "a clip")


def test_one_rig_may_have_pinholes_and_fisheyes():
    values = {**rig(2), "angle_polynomial": np.array([[0, 0, 0], [0, 1.0, 0.02]])}
    RIG.check(values, 9)
    pinhole, fisheye = (camera_of(values, view, np.eye(4)[None]) for view in range(2))
    assert "angle_polynomial" not in pinhole
    corner = np.array([[0.0, 0.0]])
    angles = [np.arccos(pixel_rays(one, 0, corner)[0, 2]) for one in (pinhole, fisheye)]
    assert angles[0] == pytest.approx(np.arctan(np.hypot(320, 180) / 300))
    radius = np.hypot(320, 180) / 300
    assert angles[1] == pytest.approx(radius + 0.02 * radius**2)


def test_a_rig_follows_resized_pictures():
    fitted = fit_recorded({"rig": rig()}, (90, 160), (80, 160))["rig"]
    assert fitted["intrinsics"][1].tolist() == [[75, 0, 80], [0, 75, 40], [0, 0, 1]]
    assert fitted["size"].tolist() == [[80, 160]] * 3
    RIG.check(fitted, 9)


def test_names_are_no_input_of_a_model():
    values = {**rig(), "names": np.array(["front", "left", "right"])}
    RIG.check(values, 9)
    batch = RIG.batch(values, 0, 9)
    assert set(batch) == {"rig_poses", "rig_intrinsics", "rig_size"}
