"""The camera signal: what is refused, and pixels that stay true through crops and lenses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls import CAMERA, fit_camera, known_signal
from nemo_cosmos.controls.camera import ftheta_camera, pixel_rays, project_rays
from nemo_cosmos.errors import NemoCosmosError, SampleError
from nemo_cosmos.video.resize import center_crop, covering_size, fitted_size, resize_and_pad

NUM_FRAMES = 3
#: A wide camera of a car: 3848 x 2168 pixels, its angle a polynomial of the radius in pixels.
CENTRE, SIZE = (1919.998, 1096.904), (2168, 3848)
POLYNOMIAL = (0.0, 5.374527e-4, 1.6630015e-9, 2.4465829e-12, 2.182997e-17)


def camera(**changed: object) -> dict[str, np.ndarray]:
    poses_T44 = np.tile(np.eye(4), (NUM_FRAMES, 1, 1))
    poses_T44[:, :3, :3] = Rotation.from_rotvec(
        np.radians([[0, 0, 0], [0, 10, 0], [0, 20, 0]])
    ).as_matrix()
    poses_T44[:, 0, 3] = [0, 1, 2]
    matrix_33 = np.array([[100.0, 0, 64], [0, 90, 36], [0, 0, 1]])
    values = {
        "poses": poses_T44,
        "intrinsics": np.tile(matrix_33, (NUM_FRAMES, 1, 1)),
        "size": np.array([72, 128]),
    }
    return values | {name: np.asarray(value) for name, value in changed.items()}


def fisheye() -> dict[str, np.ndarray]:
    return ftheta_camera(np.eye(4)[None], CENTRE, SIZE, POLYNOMIAL)


def test_it_is_declared_for_every_room():
    assert known_signal("camera.npz") is CAMERA
    CAMERA.check(camera(), NUM_FRAMES)
    CAMERA.check(fisheye(), 1)
    assert set(CAMERA.cut(camera(), 1, 2)) == {"poses", "intrinsics", "size"}
    assert len(CAMERA.cut(camera(), 1, 2)["poses"]) == 2
    # Of five frames, its five numbers must not be taken for one a frame.
    five = ftheta_camera(np.tile(np.eye(4), (5, 1, 1)), CENTRE, SIZE, POLYNOMIAL)
    assert len(CAMERA.cut(five, 2, 2)["angle_polynomial"]) == 5
    assert CAMERA.batch(five, 0, 2)["camera_angle_polynomial"].shape == (5,)


def _poses(change) -> np.ndarray:
    poses_T44 = camera()["poses"].copy()
    change(poses_T44)
    return poses_T44


def _at(index, value):
    return lambda array: array.__setitem__(index, value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"poses": _poses(lambda p: p.__setitem__((1, 0, 0), np.nan))}, "NaN"),
        (
            {"poses": _poses(lambda p: p[1, :3, :3].__imul__(2))},
            "no rotation in 'poses' of frame 1",
        ),
        ({"poses": _poses(lambda p: p[:, :3, 0].__imul__(-1))}, "no rotation.*mirroring"),
        ({"poses": _poses(_at((2, slice(None), slice(None)), 0))}, "no rotation.*frame 2"),
        ({"poses": _poses(_at((2, 3, 0), 1))}, "last row.*Transpose"),
        ({"poses": _poses(_at((0, 0, 3), 4e6))}, "Subtract the first position"),
        ({"poses": camera()["poses"][:2]}, "2 rows; expected 3"),
        ({"poses": camera()["poses"][:, :3]}, r"shape \(3, 3, 4\); expected \(3, 4, 4\)"),
        ({"intrinsics": np.zeros((NUM_FRAMES, 3, 3))}, "degenerate 'intrinsics' at frame 0"),
        ({"intrinsics": -camera()["intrinsics"]}, "degenerate"),
        ({"intrinsics": camera()["intrinsics"].transpose(0, 2, 1)}, "degenerate"),
        ({"intrinsics": np.tile(np.diag([0.8, 1.4, 1]), (3, 1, 1))}, "normalised ones"),
        ({"size": [0, 128]}, "size"),
        ({"distortion": [0.1, -0.02, 0, 0]}, "'distortion', a lens.*Undistort"),
        ({"model": "ftheta", "bw_poly": [0, 0.01]}, "ftheta_camera"),
        ({"angle_polynomial": [0.0]}, "fewer than two"),
        ({"angle_polynomial": [0.0, 1.0, -1.0]}, "does not grow.*ftheta_camera"),
    ],
)
def test_what_is_no_camera_is_refused_in_one_paragraph(changed, message):
    with pytest.raises(NemoCosmosError, match=message) as caught:
        CAMERA.check(camera(**changed), NUM_FRAMES, "'clip'")
    assert "'clip'" in str(caught.value) and "\n" not in str(caught.value)


def test_other_formats_may_say_that_it_is_a_pinhole():
    CAMERA.check(camera(distortion=np.zeros(5), model="PINHOLE"), NUM_FRAMES)


def test_a_missing_array_is_named():
    values = camera()
    del values["size"]
    with pytest.raises(SampleError, match="no array 'size'"):
        CAMERA.check(values, NUM_FRAMES)


@pytest.mark.parametrize("size", [(40, 90), (91, 61), (72, 128)])
@pytest.mark.parametrize("is_padded", [False, True])
def test_a_point_stays_where_the_picture_shows_it(size, is_padded):
    """A spot that a ray hits is found again at the pixel of the same ray after a crop or a pad."""
    values = camera()
    ray_N3 = np.array([[0.05, -0.03, 1.0]])
    spot = project_rays(values, 0, ray_N3)[0]
    rows, columns = np.mgrid[0:72, 0:128] + 0.5
    hump = np.exp(-((columns - spot[0]) ** 2 + (rows - spot[1]) ** 2) / 18)
    frame_HWC = np.repeat((255 * hump)[..., None], 3, axis=2).astype(np.uint8)
    if is_padded:
        fitted = fit_camera(values, fitted_size(72, 128, size), size)
        picture, mask_HW = resize_and_pad(frame_HWC[None], size)
        picture = picture * (1 - mask_HW[None, ..., None])
    else:
        fitted = fit_camera(values, covering_size(72, 128, size), size)
        picture = center_crop(frame_HWC[None], size)
    moments = cv2.moments(picture[0, ..., 0].astype(np.float32))
    found = np.array([moments["m10"], moments["m01"]]) / moments["m00"] + 0.5
    np.testing.assert_allclose(project_rays(fitted, 0, ray_N3)[0], found, atol=0.1)
    CAMERA.check(fitted, NUM_FRAMES)


def test_an_f_theta_lens_is_its_polynomial():
    values = fisheye()
    assert values["intrinsics"][0, 0, 0] == pytest.approx(1 / POLYNOMIAL[1])
    rays_N3 = pixel_rays(values, 0, np.array([[CENTRE[0] + 1000.0, CENTRE[1]], CENTRE]))
    angle = sum(a * 1000.0**power for power, a in enumerate(POLYNOMIAL))
    np.testing.assert_allclose(rays_N3[0], [np.sin(angle), 0, np.cos(angle)], atol=1e-9)
    np.testing.assert_allclose(rays_N3[1], [0, 0, 1], atol=1e-9)
    points_N2 = np.random.default_rng(0).uniform((0, 0), SIZE[::-1], (200, 2))
    for lens in (values, fit_camera(values, (360, 640), (300, 600))):
        scale = lens["size"][1] / SIZE[1]
        rays_N3 = pixel_rays(lens, 0, points_N2 * scale)
        again_N2 = project_rays(lens, 0, rays_N3 * 7)
        np.testing.assert_allclose(again_N2, points_N2 * scale, atol=0.02)
    assert np.isnan(project_rays(camera(), 0, np.array([[0.0, 0.1, -1.0]]))).all()


def test_a_resized_picture_has_the_same_rays():
    values = fisheye()
    fitted = fit_camera(values, (720, 1280))
    points_N2 = np.array([[100.0, 200.0], [3000.0, 1500.0]])
    scaled_N2 = points_N2 * [1280 / 3848, 720 / 2168]
    np.testing.assert_allclose(
        pixel_rays(fitted, 0, scaled_N2), pixel_rays(values, 0, points_N2), atol=1e-12
    )


def test_a_polynomial_without_a_focal_length_is_refused():
    with pytest.raises(SampleError, match="linear part"):
        ftheta_camera(np.eye(4)[None], CENTRE, SIZE, (0.0, 0.0, 1.0))


def test_less_of_a_camera_is_less_of_its_path_from_the_first_frame():
    turns = Rotation.from_euler("y", [[20], [30], [50]], degrees=True)
    poses_T44 = np.tile(np.eye(4), (3, 1, 1))
    poses_T44[:, :3, :3] = turns.as_matrix()
    poses_T44[:, :3, 3] = [[1, 2, 3], [1, 2, 4], [1, 2, 7]]
    values = {
        "poses": poses_T44.astype(np.float32),
        "intrinsics": np.tile(np.diag([50.0, 50.0, 1.0]), (3, 1, 1)),
        "size": np.array([32, 48]),
    }
    half, still, same = (CAMERA.scaled(values, scale) for scale in (0.5, 0.0, 1.0))
    for scaled in (half, still, same):
        CAMERA.check(scaled, 3, "a camera")
    angles = Rotation.from_matrix(half["poses"][:, :3, :3]).as_euler("yxz", degrees=True)[:, 0]
    assert angles == pytest.approx([20, 25, 35], abs=1e-3)
    assert half["poses"][:, :3, 3] == pytest.approx(np.array([[1, 2, 3], [1, 2, 3.5], [1, 2, 5]]))
    assert still["poses"] == pytest.approx(np.tile(values["poses"][0], (3, 1, 1)), abs=1e-6)
    assert same is values
    assert (half["intrinsics"] == values["intrinsics"]).all()
