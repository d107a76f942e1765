"""The camera of small pictures is found by laying the first frame onto the others."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation import choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.geometry.alignment import find_aligned_path
from nemo_cosmos.evaluation.metric import Case
from post_training.rooms import RoomSettings
from post_training.rooms.paths import KINDS
from post_training.rooms.studio import film_room

METRICS = choose_metrics(
    ["aligned_success", "aligned_rotation_error_deg", "aligned_position_error_cm"]
)


def filmed(kind, seed=3):
    """A clip whose first frame shows near and far."""
    settings = RoomSettings(num_frames=5, height=48, width=64, seed=seed)
    clip = film_room(settings, KINDS.index(kind))
    depth_HW = clip.depth["depth_m"][0].astype(float)
    if depth_HW.std() < 0.2 * depth_HW.mean():
        return filmed(kind, seed + 10)
    recorded = {"camera": clip.camera, "scene_depth": clip.depth}
    return Case(kind, clip.video.frames_THWC, recorded=recorded)


def scores(case):
    found = evaluate_cases([case], METRICS).scores
    return tuple(found[metric.name].value for metric in METRICS)


@pytest.mark.parametrize("kind", ["pan", "tilt", "orbit", "dolly", "truck"])
def test_the_path_of_a_true_video_is_found(kind):
    success, rotation_deg, position_cm = scores(filmed(kind))
    assert success == 1
    assert rotation_deg < 0.8
    assert position_cm < 3


def test_a_soft_and_noisy_video_is_followed_too():
    case = filmed("orbit")
    noise = np.random.default_rng(0).normal(0, 5, case.generated_THWC.shape)
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.2) for frame in case.generated_THWC])
    frames_THWC = np.clip(soft + noise, 0, 255).astype(np.uint8)
    success, rotation_deg, _ = scores(replace(case, generated_THWC=frames_THWC))
    assert success == 1
    assert rotation_deg < 1.2


def test_a_video_that_stands_still_is_as_wrong_as_its_camera_turns():
    case = filmed("pan")
    still_THWC = np.repeat(case.generated_THWC[:1], 5, axis=0)
    _, rotation_deg, _ = scores(replace(case, generated_THWC=still_THWC))
    poses_T44 = case.recorded["camera"]["poses"]
    turn_33 = poses_T44[0, :3, :3].T @ poses_T44[-1, :3, :3]
    whole_deg = np.degrees(np.arccos((np.trace(turn_33) - 1) / 2))
    assert rotation_deg == pytest.approx(whole_deg / 2, rel=0.05)  # the mean of an even pan


def test_the_given_path_is_not_looked_at():
    case = filmed("truck")
    camera, depth_HW = case.recorded["camera"], case.recorded["scene_depth"]["depth_m"][0]
    one = find_aligned_path(case.generated_THWC, camera, depth_HW)
    elsewhere = {**camera, "poses": camera["poses"] @ np.diag([-1, 1, -1, 1])}
    other = find_aligned_path(case.generated_THWC, elsewhere, depth_HW)
    np.testing.assert_array_equal(one.poses_T44, other.poses_T44)


def test_pictures_of_another_room_have_no_place():
    case, other = filmed("pan"), filmed("pan", seed=4)
    frames_THWC = np.concatenate([case.generated_THWC[:1], other.generated_THWC[1:]])
    success, rotation_deg, _ = scores(replace(case, generated_THWC=frames_THWC))
    still = scores(replace(case, generated_THWC=np.repeat(case.generated_THWC[:1], 5, axis=0)))
    assert success == 0
    assert rotation_deg == pytest.approx(still[1], rel=0.05)


def test_a_fisheye_is_refused():
    case = filmed("pan")
    camera = {**case.recorded["camera"], "angle_polynomial": np.array([0.0, 1.0])}
    case = replace(case, recorded={**case.recorded, "camera": camera})
    with pytest.raises(VideoError, match="is a fisheye"):
        METRICS[1].per_frame(case)


def test_a_bare_wall_is_refused_since_a_turn_and_a_step_to_the_side_look_alike():
    case = filmed("pan")
    flat = {"depth_m": np.full_like(case.recorded["scene_depth"]["depth_m"], 2.0)}
    case = replace(case, recorded={**case.recorded, "scene_depth": flat})
    with pytest.raises(VideoError, match="little more than one wall"):
        METRICS[1].per_frame(case)
