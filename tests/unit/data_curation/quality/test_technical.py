"""Blur against scikit-image; blocks, exposure and bars against cases with a known answer."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.data import astronaut
from skimage.measure import blur_effect

from data_curation.quality.technical import blockiness, blurriness, exposure, find_bars

PICTURE = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0])
def test_blur_is_that_of_scikit_image(sigma):
    picture = cv2.GaussianBlur(PICTURE, (0, 0), sigma) if sigma else PICTURE
    assert blurriness(picture) == pytest.approx(blur_effect(picture), abs=2e-3)


def test_a_flat_picture_is_blurred():
    assert blurriness(np.full((32, 32), 80, np.uint8)) == 1.0


def test_blocks_stand_out_wherever_their_grid_begins():
    small = cv2.resize(PICTURE, (64, 64), interpolation=cv2.INTER_AREA)
    blocks = np.kron(small, np.ones((8, 8), np.uint8))
    assert blockiness(PICTURE) < 0.2
    assert blockiness(blocks) > 5
    assert blockiness(blocks[3:, 5:]) > 5
    assert blockiness(np.full((64, 64), 80, np.uint8)) == 0
    assert blockiness(PICTURE[:8, :8]) == 0


def test_the_harder_the_compression_the_blockier():
    values = []
    for quality in (90, 30, 10):
        jpeg = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        values.append(blockiness(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)))
    assert values == sorted(values)
    assert values[-1] > 0.6


def test_exposure_counts_pixels():
    picture = np.full((10, 10), 128, np.uint8)
    picture[:3], picture[9:] = 0, 255
    assert exposure(picture) == (0.3, 0.1)


def test_bars_are_what_is_black_in_all_frames():
    frames = np.stack([PICTURE, np.roll(PICTURE, 40, axis=1)])
    frames[:, :60], frames[:, -50:], frames[:, :, :20] = 16, 18, 0
    assert find_bars(frames) == (60, 50, 20, 0)
    assert find_bars(np.stack([PICTURE] * 2))[0] == 0
    assert find_bars(np.zeros((2, 20, 20), np.uint8)) == (0, 0, 0, 0)
