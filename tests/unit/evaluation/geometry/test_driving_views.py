"""Real cameras on a car, with their fisheyes: the right calibration is near, others are far."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nemo_cosmos.controls import fit_camera
from nemo_cosmos.controls.camera import ftheta_camera
from nemo_cosmos.evaluation.geometry.cross_view import given_camera_view_errors, view_agreement
from nemo_cosmos.evaluation.metric import Case, View
from nemo_cosmos.video import decode

SIZE = (540, 960)


@pytest.fixture(scope="module")
def drive(samples_dir) -> Case:
    """Three moments of the front and the front left camera."""
    folder = samples_dir / "driving_multiview"
    known = json.loads((folder / "av22_calibration.json").read_text())
    views = []
    for camera, name in (("front", "front"), ("front_left", "cross_left")):
        file = folder / f"sample_av_mv_input_hdmap_{camera}.mp4"
        frames_THWC = decode(file, frame_indices=(60, 90, 120), size=SIZE).frames_THWC
        lens, pose_44 = known[f"intrinsics_{name}"], known.get(f"pose_{name}", np.eye(4).tolist())
        poses_T44 = np.tile(np.array(pose_44), (3, 1, 1))
        size = (lens["height"], lens["width"])
        values = ftheta_camera(poses_T44, lens["center"], size, lens["bw_poly"])
        camera_signal = {"camera": fit_camera(values, SIZE)}
        views.append(View(frames_THWC, frames_THWC, camera_signal))
    main, left = views
    return Case(
        "drive", main.generated_THWC, main.truth_THWC, recorded=main.recorded, views={"left": left}
    )


def test_the_right_calibration_is_near_and_another_is_far(drive):
    left = drive.views["left"]
    near = given_camera_view_errors(drive).mean()
    poses_T44 = left.recorded["camera"]["poses"].copy()
    poses_T44[:, [0, 2], 0:3:2] = np.swapaxes(poses_T44[:, [0, 2], 0:3:2], 1, 2)  # to the right
    turned = {"camera": {**left.recorded["camera"], "poses": poses_T44}}
    pinhole = dict(left.recorded["camera"])
    del pinhole["angle_polynomial"]
    for wrong in (turned, {"camera": pinhole}):
        other = replace(drive, views={"left": replace(left, recorded=wrong)})
        assert given_camera_view_errors(other).mean() > 3 * near


def test_a_camera_that_is_late_agrees_less(drive):
    left = drive.views["left"]
    late = replace(left, generated_THWC=np.roll(left.generated_THWC, 1, axis=0))
    assert view_agreement(drive) == 1.0
    assert view_agreement(replace(drive, views={"left": late})) < 0.6
