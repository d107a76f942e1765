"""Errors of gripper and objects equal the distance that a video was made with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.evaluation.cases import score_cases
from nemo_cosmos.evaluation.files.recorded import recorded_needs
from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.testing.squares import HEIGHT, NUM_FRAMES, WIDTH, film, line
from nemo_cosmos.video import decode

FOCAL_PX, DEPTH_M = 100.0, 2.0
GRIPPER = choose_metrics(
    ["gripper_error", "gripper_end_error", "gripper_error_cm", "gripper_end_error_cm"]
)
OBJECTS = choose_metrics(["object_error", "object_end_error_cm", "object_seen"])
IN_PIXELS = choose_metrics(["gripper_error"])


def camera() -> dict[str, np.ndarray]:
    matrix = np.array([[FOCAL_PX, 0, WIDTH / 2], [0, FOCAL_PX, HEIGHT / 2], [0, 0, 1]])
    return {
        "poses": np.tile(np.eye(4), (NUM_FRAMES, 1, 1)),
        "intrinsics": np.tile(matrix, (NUM_FRAMES, 1, 1)),
        "size": np.array([HEIGHT, WIDTH], float),
    }


def positions(points_T2: np.ndarray) -> np.ndarray:
    """Where something is in metres that is seen at these points."""
    plane_T2 = (points_T2 - [WIDTH / 2, HEIGHT / 2]) / FOCAL_PX * DEPTH_M
    return np.c_[plane_T2, np.full(len(points_T2), DEPTH_M)]


def case(generated_THWC: np.ndarray, **recorded: dict[str, np.ndarray]) -> Case:
    return Case("a", generated_THWC, film(TRUTH), recorded=recorded)


def scores(one: Case, metrics: list) -> dict[str, float]:
    (found,) = score_cases([one], metrics)
    return found.scores


TRUTH = line((20.0, 20.0), (2.5, 0.4))
OTHER = line((20.0, 20.0), (1.0, 1.6))
AWAY = np.linalg.norm(OTHER - TRUTH, axis=1)


def test_the_gripper_in_pixels_and_centimetres():
    state = {"state": np.c_[positions(TRUTH), np.zeros((NUM_FRAMES, 4))]}
    found = scores(case(film(OTHER, seed=1), state=state, camera=camera()), GRIPPER)
    cm_a_px = 100 * DEPTH_M / FOCAL_PX
    assert found["gripper_error"] == pytest.approx(AWAY.mean(), abs=0.3)
    assert found["gripper_end_error"] == pytest.approx(AWAY[-1], abs=0.4)
    assert found["gripper_error_cm"] == pytest.approx(cm_a_px * found["gripper_error"])
    assert found["gripper_end_error_cm"] == pytest.approx(cm_a_px * found["gripper_end_error"])


def test_without_a_camera_the_gripper_is_what_moves_as_recorded():
    turned = positions(TRUTH) @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    one = case(film(OTHER, seed=1), state={"state": turned})
    assert scores(one, IN_PIXELS)["gripper_error"] == pytest.approx(AWAY.mean(), abs=0.5)
    same = case(film(TRUTH), state={"state": turned})
    assert scores(same, IN_PIXELS)["gripper_error"] == pytest.approx(0, abs=0.2)


def test_states_of_another_episode_are_refused():
    swung = positions(line((32.0, 24.0), (0, 0))) + np.sin(np.arange(NUM_FRAMES) * 2)[:, None]
    with pytest.raises(VideoError, match="Nothing in the true video moves as the recorded"):
        scores(case(film(OTHER), state={"state": swung}), IN_PIXELS)
    elsewhere = {"state": positions(line((50.0, 40.0), (-4.0, -2.0)))}
    with pytest.raises(VideoError, match="moves along the recorded path of the gripper"):
        scores(case(film(OTHER), state=elsewhere, camera=camera()), IN_PIXELS)


def test_short_clips_and_a_gripper_outside_the_picture_are_refused():
    truth_THWC = film(TRUTH)[:5]
    short = Case("a", truth_THWC, truth_THWC, recorded={"state": {"state": positions(TRUTH)[:5]}})
    with pytest.raises(VideoError, match="takes 8 frames"):
        scores(short, IN_PIXELS)
    outside = {"state": positions(np.add(TRUTH, (WIDTH, 0)))}
    with pytest.raises(VideoError, match="outside the picture in 9 of 9"):
        scores(case(film(OTHER), state=outside, camera=camera()), IN_PIXELS)
    with pytest.raises(ConfigError, match=r"begin with x, y, z"):
        scores(case(film(OTHER), state={"state": np.zeros((NUM_FRAMES, 2))}), IN_PIXELS)


def test_objects_that_move_and_that_stay():
    still = line((10.0, 40.0), (0, 0))
    things = {
        "position_m": np.stack([positions(TRUTH), positions(still)], axis=1),
        "half_m": np.array([0.1, 0.06]),
    }
    found = scores(case(film(OTHER, seed=1), things=things, camera=camera()), OBJECTS)
    assert found["object_error"] == pytest.approx(AWAY.mean() / 2, abs=0.4)
    assert found["object_end_error_cm"] == pytest.approx(2 * AWAY[-1] / 2, abs=0.5)
    wrong = things | {"half_m": np.ones(3)}
    with pytest.raises(ConfigError, match=r"'half_m' of shape \(3,\); expected \(2,\)"):
        scores(case(film(OTHER), things=wrong, camera=camera()), OBJECTS)
    with pytest.raises(ConfigError, match=r"expected \(9, N, 3\)"):
        scores(case(film(OTHER), things={"place": still}, camera=camera()), OBJECTS)


def test_a_camera_is_read_where_there_is_one_and_not_demanded():
    assert recorded_needs(IN_PIXELS) == ["camera", "state"]
    assert "camera" not in IN_PIXELS[0].needs


def test_a_real_gripper_without_a_camera(samples_dir: Path):
    """The whole picture moved aside by eight pixels is a gripper eight pixels aside."""
    bridge = samples_dir / "robotics_bridge"
    annotation = json.loads((bridge / "annotation" / "train" / "5873.json").read_text())
    state = {"state": np.array(annotation["state"])}
    video = decode(bridge / "videos" / "train" / "5873" / "rgb.mp4", size=(240, 320))
    truth_THWC = video.frames_THWC
    aside = Case("a", np.roll(truth_THWC, 8, axis=2), truth_THWC, recorded={"state": state})
    assert scores(aside, IN_PIXELS)["gripper_error"] == pytest.approx(8, abs=1.5)


def test_a_clip_of_one_frame():
    truth_THWC = film(TRUTH)[:1]
    one_frame = {name: value[:1] if value.ndim > 1 else value for name, value in camera().items()}
    recorded = {"state": {"state": positions(TRUTH)[:1]}, "camera": one_frame}
    assert scores(Case("a", truth_THWC, truth_THWC, recorded=recorded), IN_PIXELS) == {
        "gripper_error": pytest.approx(0, abs=0.2)
    }
