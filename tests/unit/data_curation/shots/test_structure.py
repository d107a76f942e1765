"""A change of light is no change of shot: the corners of the scene go on through it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from data_curation.shots.detect import detect_shots
from data_curation.shots.structure import SAME_SCENE, staying_share
from nemo_cosmos.video import Video, encode_video

HEIGHT, WIDTH = 144, 256


PICTURES = {1: data.coffee, 2: data.rocket, 3: data.cat}


def street(seed: int, num_frames: int) -> np.ndarray:
    """Luma of a scene of its own, past which a camera goes slowly."""
    wide = cv2.resize(PICTURES[seed](), (WIDTH + 40, HEIGHT), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(wide, cv2.COLOR_RGB2GRAY)
    return np.stack([grey[:, at // 2 : at // 2 + WIDTH] for at in range(num_frames)])


def shadow(frames_THW: np.ndarray, start: int, end: int) -> np.ndarray:
    """The leaves of trees between the sun and all that is seen."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    leaves = 0.25 + 0.6 * (np.sin(x / 23 + 1) * np.sin(y / 17) > 0.1)
    out = frames_THW.astype(float)
    out[start:end] *= cv2.GaussianBlur(leaves, (0, 0), 2)
    return out.astype(np.uint8)


def flare(frames_THW: np.ndarray, start: int, end: int) -> np.ndarray:
    """The sun in the lens."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    glow = 70 + 130 * np.exp(-((x - 150) ** 2 + (y - 20) ** 2) / 3000)
    out = frames_THW.astype(float)
    out[start:end] += glow
    return np.clip(out, 0, 255).astype(np.uint8)


def coloured(frames_THW: np.ndarray) -> np.ndarray:
    return np.repeat(frames_THW[..., None], 3, axis=-1)


@pytest.mark.parametrize("disturb", [shadow, flare])
def test_light_that_changes_is_no_change_of_shot(tmp_path, disturb):
    disturbed = disturb(street(1, 60), 20, 42)
    assert staying_share(disturbed[18:24]) > 2 * SAME_SCENE
    encode_video(tmp_path / "drive.mp4", Video(coloured(disturbed), fps=24), crf=10)
    assert detect_shots(tmp_path / "drive.mp4", 60) == []


def test_another_scene_is_one_even_in_the_same_light(tmp_path):
    frames = np.concatenate([street(1, 30), street(2, 30) // 2])
    assert staying_share(frames[29:31]) < SAME_SCENE / 3
    encode_video(tmp_path / "two.mp4", Video(coloured(frames), fps=24), crf=10)
    ((start, end),) = [(t.start, t.end) for t in detect_shots(tmp_path / "two.mp4", 60)]
    assert start == end == 30


def test_corners_that_turn_into_others_by_and_by_do_not_stay():
    weight = np.linspace(0, 1, 40)[:, None, None]
    mixed = street(1, 40) * (1 - weight) + street(2, 40) * weight
    assert staying_share(mixed.astype(np.uint8)) < SAME_SCENE / 3


def test_a_logo_alone_is_no_scene_that_goes_on():
    one, other = street(1, 1), street(2, 1)
    for frame in (one, other):
        frame[0, 5:25, 5:40] = np.kron(np.eye(4, 7), np.full((5, 5), 255))
    assert staying_share([one[0], other[0]]) < SAME_SCENE / 2


def test_an_empty_picture_says_nothing():
    assert staying_share(np.full((3, HEIGHT, WIDTH), 90, np.uint8)) == 0
