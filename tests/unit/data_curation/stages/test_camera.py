"""The camera's motion and direction on a view that moves over a real picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from data_curation.clip import Clip, Rejection
from data_curation.stages.camera import (
    CameraStage,
    camera_motion,
    fit_similarity,
    stretch_numbers,
)
from nemo_cosmos.video import Video, encode_video

FPS = 24.0


def views(
    pan: float = 0, tilt: float = 0, zoom: float = 0, shake: float = 0, height=108, width=192
) -> np.ndarray:
    """Twelve views; speeds in widths or e-foldings a second."""
    rng, picture, frames = np.random.default_rng(3), astronaut(), []
    for number in range(12):
        seconds = (number - 6) / FPS
        size = 300 * np.exp(-zoom * seconds)
        jitter = rng.normal(0, shake, 2) * size
        x = 256 + pan * seconds * size + jitter[0]
        y = 200 - tilt * seconds * size + jitter[1]
        scale = width / size
        matrix = np.array([[scale, 0, width / 2 - scale * x], [0, scale, height / 2 - scale * y]])
        frames.append(
            cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        )
    return np.stack(frames)


@pytest.mark.parametrize(
    ("motion", "label"),
    [
        ({}, "static"),
        ({"pan": 0.2}, "pan_right"),
        ({"pan": -0.2}, "pan_left"),
        ({"tilt": 0.2}, "tilt_up"),
        ({"tilt": -0.2}, "tilt_down"),
        ({"zoom": 0.3}, "zoom_in"),
        ({"zoom": -0.3}, "zoom_out"),
        ({"shake": 0.02}, "shake"),
    ],
)
def test_the_label_is_what_was_planted(motion, label):
    assert camera_motion([views(**motion)], FPS).labels[0] == label


def test_speeds_are_measured_in_their_units():
    found = camera_motion([views(pan=0.3, tilt=-0.1, zoom=0.2)], FPS)
    assert found.pan == pytest.approx(0.3, rel=0.1)
    assert found.tilt == pytest.approx(-0.1, rel=0.15)
    assert found.zoom == pytest.approx(0.2, rel=0.15)
    assert set(found.labels) == {"pan_right", "tilt_down", "zoom_in"}


def test_what_moves_in_front_of_the_camera_has_no_say():
    frames = views()
    for number, frame in enumerate(frames):
        frame[30:80, 10 + 8 * number : 70 + 8 * number] = astronaut()[:50, 200:260]
    assert camera_motion([frames], FPS).labels == ("static",)


def test_nothing_to_see_does_not_move():
    flat = np.full((40, 60), 80, np.uint8)
    step, explained = fit_similarity(flat, flat)
    assert np.array_equal(step, np.zeros(4)) and explained == 1
    assert camera_motion([views()[:1]], FPS).labels == ("static",)


@pytest.mark.parametrize("num_frames", [1, 2, 12, 13, 40, 1000])
def test_stretches_lie_in_the_clip(num_frames):
    stretches = stretch_numbers(num_frames)
    assert 1 <= len(stretches) <= 3
    for numbers in stretches:
        assert 0 <= numbers[0] <= numbers[-1] < num_frames
        assert np.array_equal(np.diff(numbers), np.ones(len(numbers) - 1))


@pytest.fixture
def clip():
    return Clip(
        source=Path("v.mp4"),
        name="v.mp4",
        clip_id="c",
        num_frames=12,
        fps=FPS,
        width=192,
        height=108,
        extra={"task": "push"},
    )


def test_the_stage_adds_scores_and_a_fact(store, tmp_path, clip):
    encode_video(tmp_path / "v.mp4", Video(views(pan=0.3), fps=FPS), crf=10)
    store.put("c", "mp4", (tmp_path / "v.mp4").read_bytes())
    out = CameraStage(store).process(clip)
    assert out.extra == {"task": "push", "camera_motion": ["pan_right"]}
    assert out.scores["camera_pan"] == pytest.approx(0.3, rel=0.15)


def test_a_damaged_clip_is_a_decode_failure(store, clip):
    store.put("c", "mp4", b"damaged")
    result = CameraStage(store).process(clip)
    assert isinstance(result, Rejection)
    assert result.reason == "decode_failure"


def test_where_everything_goes_its_own_way_no_motion_of_the_camera_is_claimed():
    tile = cv2.resize(astronaut(), (96, 96))
    ways = ((4, 0), (-4, 0), (0, 4), (0, -4), (-3, -3), (3, -3))
    frames = []
    for number in range(8):
        moved = [np.roll(tile, (number * dy, number * dx), axis=(0, 1)) for dx, dy in ways]
        frames.append(np.concatenate([np.concatenate(moved[:3], 1), np.concatenate(moved[3:], 1)]))
    found = camera_motion([np.stack(frames)], FPS)
    assert found.certain < 0.5 and found.labels == ()
