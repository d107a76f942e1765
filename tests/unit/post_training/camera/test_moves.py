"""Moves and keys: where each leads, known by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls import CAMERA
from nemo_cosmos.errors import ConfigError
from post_training.camera.moves import (
    Speeds,
    camera_path,
    camera_signal,
    parse_keys,
    parse_move,
)
from post_training.camera.picture import path_png

LOOK, RIGHT = 2, 0  # columns of a camera-to-world rotation: z and x


def path(*moves: str, num_frames: int = 5, distance_m: float = 1.0) -> np.ndarray:
    return camera_path([parse_move(text) for text in moves], num_frames, distance_m)


@pytest.mark.parametrize(
    ("move", "column", "expected"),
    [
        ("pan:90", LOOK, [1, 0, 0]),  # looks to the right
        ("pan:-90", LOOK, [-1, 0, 0]),
        ("tilt:90", LOOK, [0, -1, 0]),  # looks up: y leads down
        ("roll:90", RIGHT, [0, 1, 0]),  # its right side leads down
        ("dolly:2", 3, [0, 0, 2]),
        ("truck:2", 3, [2, 0, 0]),
        ("pedestal:2", 3, [0, -2, 0]),
        ("orbit:90", 3, [1, 0, 1]),  # to the right of the middle at (0, 0, 1), and looks at it
        ("orbit:90", LOOK, [-1, 0, 0]),
    ],
)
def test_each_move_leads_where_its_name_says(move, column, expected):
    np.testing.assert_allclose(path(move)[-1][:3, column], expected, atol=1e-12)


def test_a_move_is_even_and_starts_at_the_origin():
    poses_T44 = path("pan:40", num_frames=5)
    np.testing.assert_array_equal(poses_T44[0], np.eye(4))
    turns = Rotation.from_matrix(poses_T44[:, :3, :3]).as_rotvec(degrees=True)[:, 1]
    np.testing.assert_allclose(turns, [0, 10, 20, 30, 40])
    CAMERA.check(camera_signal(poses_T44, (48, 64)), 5)


def test_an_orbit_keeps_its_distance_and_its_middle():
    poses_T44 = path("orbit:120", num_frames=9, distance_m=3.0)
    middles = poses_T44[:, :3, 3] + 3 * poses_T44[:, :3, LOOK]
    np.testing.assert_allclose(middles, np.tile([0, 0, 3.0], (9, 1)), atol=1e-12)


def test_the_horizon_stays_level_in_a_pan_after_a_tilt():
    last = path("tilt:30", "pan:50")[-1]
    assert last[1, RIGHT] == pytest.approx(0), "its right side is level"
    assert last[1, LOOK] == pytest.approx(-0.5), "and it still looks up by 30 degrees"


def test_moves_follow_each_other_or_go_on_at_once():
    after = path("dolly:1:3", "truck:2:1", num_frames=7)
    np.testing.assert_allclose(after[:, 2, 3], [0, 1 / 3, 2 / 3, 1, 1, 1, 1])
    np.testing.assert_allclose(
        after[:, 0, 3], [0, 0, 0, 0, 2, 2, 2], err_msg="then it stands still"
    )
    once = path("dolly:1+truck:2", num_frames=5)
    np.testing.assert_allclose(once[:, 0, 3], 2 * once[:, 2, 3])
    shared = path("dolly:1:4", "truck:1", "truck:1", num_frames=8)
    np.testing.assert_allclose(shared[:, 0, 3], [0, 0, 0, 0, 0, 0.5, 1, 2])


def test_keys_are_steps():
    moves = parse_keys("ww l2 .d3", Speeds(step_m=0.5, step_deg=45))
    poses_T44 = camera_path(moves, 9)
    np.testing.assert_allclose(poses_T44[2, :3, 3], [0, 0, 1])
    np.testing.assert_allclose(poses_T44[5, :3, LOOK], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(poses_T44[8, :3, 3], [0, 0, 1 - 1.5], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pan", "expected MOVE:AMOUNT"),
        ("", "expected MOVE:AMOUNT"),
        ("pam:3", "no move 'pam'.*pan"),
        ("pan:fast", "'fast' in 'pan:fast' is no amount"),
        ("pan:inf", "no amount"),
        ("pan:3:0", "from 1 to 100,000"),
        ("pan:3:1.5", "no number of steps"),
        ("pan:3+pan:4", "twice"),
    ],
)
def test_what_is_no_move_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_move(text)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"no key 'x'.*w .dolly"):
        parse_keys("wx")
    with pytest.raises(ConfigError, match=r"take 9 steps.*5 frames has 4"):
        path("pan:3:9")


def test_the_picture_shows_the_path():
    """From above: a camera that goes forward and right leads to the upper right."""
    values = camera_signal(path("dolly:1+truck:1", num_frames=9), (48, 64))
    png = cv2.imdecode(np.frombuffer(path_png(values, "diagonal"), np.uint8), cv2.IMREAD_COLOR)
    assert png.shape[0] > 400 and png.shape[1] > 900
    is_dark = (png[..., 0] > 90) & (png[..., 1] < 60) & (png[..., 2] < 90)  # the first frames
    is_late = (png[..., 1] > 160) & (png[..., 0] < 90) & (png[..., 2] < 170)  # the last ones
    half = png.shape[1] // 2
    first, last = (np.argwhere(mask[:, :half]).mean(axis=0) for mask in (is_dark, is_late))
    assert last[0] < first[0] and last[1] > first[1]
    still = camera_signal(path("pan:40"), (48, 64))
    assert len(path_png(still)) > 5000
