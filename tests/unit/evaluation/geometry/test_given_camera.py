"""With the right cameras matches lie on their epipolar lines; with others they do not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation import choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.geometry.epipolar import (
    Lens,
    fit_fundamental,
    given_errors,
    sampson_errors,
)
from nemo_cosmos.evaluation.geometry.given_camera import given_camera_errors
from nemo_cosmos.evaluation.geometry.points import DIAGONAL_PX
from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.testing.rooms import draw, pinhole

(METRIC,) = choose_metrics(["given_camera_sampson_sift"])


def scattered(seed: int = 0, num: int = 60):
    """Points in space, two cameras, and where each camera sees them."""
    generator = np.random.default_rng(seed)
    points_N3 = np.c_[generator.uniform(-1, 1, (num, 2)), generator.uniform(3, 6, num)]
    camera = pinhole(
        np.array([[0, 0, 0], [0.4, 0.1, 0.3]]), np.array([[0, 0, 0], [3, -8, 5]]), (180, 320)
    )
    seen = []
    for frame in range(2):
        pose_44 = camera["poses"][frame]
        own_N3 = (points_N3 - pose_44[:3, 3]) @ pose_44[:3, :3]
        image_N3 = own_N3 @ camera["intrinsics"][frame].T
        seen.append(image_N3[:, :2] / image_N3[:, 2:])
    return camera, *seen


def test_the_matrix_of_two_cameras_is_opencvs():
    """OpenCV, which knows nothing of the cameras, finds the same lines from the points alone."""
    camera, first_N2, second_N2 = scattered()
    lenses = [Lens(camera, frame) for frame in range(2)]
    scale = DIAGONAL_PX / np.hypot(180, 320)
    moved = [
        lens.move(points)[0] for lens, points in zip(lenses, (first_N2, second_N2), strict=True)
    ]
    np.testing.assert_allclose(moved[0], first_N2 * scale, atol=1e-9)
    assert given_errors(*lenses, *moved).max() < 1e-8
    eight_33, _ = cv2.findFundamentalMat(*moved, cv2.FM_8POINT)
    noisy_N2 = moved[1] + np.random.default_rng(1).normal(0, 2, moved[1].shape)
    expected_N = [
        np.sqrt(abs(cv2.sampsonDistance(np.r_[a, 1][None], np.r_[b, 1][None], eight_33)))
        for a, b in zip(moved[0], noisy_N2, strict=True)
    ]
    np.testing.assert_allclose(given_errors(*lenses, moved[0], noisy_N2), expected_N, atol=1e-4)
    fitted_33, num_fitting = fit_fundamental(*moved)
    assert num_fitting == len(first_N2)
    assert sampson_errors(*moved, fitted_33).max() < 0.02
    assert fit_fundamental(moved[0][:8], moved[1][:8]) is None


def test_a_camera_that_turns_in_place_has_an_error_too():
    camera = pinhole(np.zeros((2, 3)), np.array([[0, 0, 0], [0, 10, 0]]), (180, 320))
    lenses = [Lens(camera, frame) for frame in range(2)]
    rays_N3 = np.c_[np.random.default_rng(0).uniform(-0.2, 0.2, (20, 2)), np.ones(20)]
    first_N2, second_N2 = (
        (lambda image: image[:, :2] / image[:, 2:])(
            rays_N3 @ lens.pose_44[:3, :3] @ lens.matrix_33.T
        )
        for lens in lenses
    )
    assert given_errors(*lenses, first_N2, second_N2).max() < 1e-9
    off_N = given_errors(*lenses, first_N2, second_N2 + np.array([3.0, 4.0]))
    np.testing.assert_allclose(off_N, 5 / np.sqrt(2))


def test_the_right_path_is_near_and_others_are_far(flown):
    camera = flown.recorded["camera"]
    right = given_camera_errors(flown)
    assert right.shape == (len(flown.generated_THWC),) and right.max() < 0.6
    turn = Rotation.from_rotvec(np.radians([0, 0, 20])).as_matrix()
    rolled = camera["poses"].copy()
    rolled[1::2, :3, :3] = rolled[1::2, :3, :3] @ turn
    wrong = {
        "shuffled": camera["poses"][[3, 0, 4, 2, 1]],
        "still": np.tile(camera["poses"][0], (len(camera["poses"]), 1, 1)),
        "rolled": rolled,
    }
    for name, poses_T44 in wrong.items():
        told = replace(flown, recorded={"camera": {**camera, "poses": poses_T44}})
        assert given_camera_errors(told).mean() > 5 * right.mean(), name


def test_a_resized_video_has_the_same_error(flown):
    half = np.stack(
        [cv2.resize(f, (512, 288), interpolation=cv2.INTER_CUBIC) for f in flown.generated_THWC]
    )
    found = given_camera_errors(replace(flown, generated_THWC=half, truth_THWC=None))
    assert abs(found.mean() - given_camera_errors(flown).mean()) < 0.3


def test_a_fisheye_is_measured_in_a_pinhole(rig):
    wide = rig.views["wide"]
    case = replace(rig, generated_THWC=wide.generated_THWC, recorded=wide.recorded, views={})
    assert given_camera_errors(case).mean() < 0.8
    camera = dict(wide.recorded["camera"])
    del camera["angle_polynomial"]  # its lens taken for a pinhole
    wrong = replace(case, recorded={"camera": camera})
    assert given_camera_errors(wrong).mean() > 1.5 * given_camera_errors(case).mean()


def test_what_cannot_be_measured_is_skipped_with_the_reason(flown):
    flat = np.full_like(flown.generated_THWC, 120)
    with pytest.raises(VideoError, match="fewer than 16 points"):
        given_camera_errors(replace(flown, generated_THWC=flat))
    with pytest.raises(VideoError, match="single frame"):
        given_camera_errors(replace(flown, generated_THWC=flat[:1]))


def test_it_is_a_metric_with_a_curve(flown):
    assert METRIC.needs == {"camera"} and METRIC.features.name == "SIFT"
    found = evaluate_cases([flown], [METRIC])
    curve = found.clips["flight"].curves[METRIC.name]
    assert len(curve) == len(flown.generated_THWC)
    assert found.scores[METRIC.name].value == pytest.approx(np.mean(curve))


def test_two_frames_are_enough():
    camera = pinhole(np.array([[0, 0, 0], [0.2, 0, 0]]), np.zeros((2, 3)), (144, 256))
    found = given_camera_errors(Case("two", draw(camera), recorded={"camera": camera}))
    assert found.shape == (2,) and found[0] == found[1] < 0.6
