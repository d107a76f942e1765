"""Finding text: boxes of a known map, and real text in a real picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from data_curation.text_overlay.detector import (
    GROWTH,
    TextBox,
    boxes_of_map,
    coverage,
    load_detector,
    network_size,
)


def core_map(*cores: tuple[int, int, int, int], value: float = 0.9) -> np.ndarray:
    probabilities = np.zeros((96, 192), dtype=np.float32)
    for left, top, right, bottom in cores:
        probabilities[top:bottom, left:right] = value
    return probabilities


def test_a_core_is_grown_by_what_training_shrank_it():
    (box,) = boxes_of_map(core_map((40, 34, 101, 41)))
    # The outline goes through the centres of the pixels: 60 x 6.
    offset = 60 * 6 * GROWTH / (2 * (60 + 6))
    x, y = (box.corners * (192, 96)).T
    assert x.min() == pytest.approx(40 - offset, abs=0.6)
    assert x.max() == pytest.approx(100 + offset, abs=0.6)
    assert y.min() == pytest.approx(34 - offset, abs=0.6)
    assert box.score == pytest.approx(0.9, abs=1e-3)


def test_specks_and_weak_cores_are_no_text():
    assert boxes_of_map(core_map((10, 10, 12, 12))) == []
    assert boxes_of_map(core_map((10, 10, 60, 30), value=0.4)) == []
    assert boxes_of_map(core_map((20, 10, 170, 86))) == []  # nearly all of the picture


def test_a_slanted_line_is_one_slanted_box():
    canvas = np.zeros((200, 200), dtype=np.uint8)
    corners = cv2.boxPoints(((100.0, 100.0), (120.0, 16.0), 30.0)).astype(np.int32)
    cv2.fillPoly(canvas, [corners], (1,))
    (box,) = boxes_of_map(canvas.astype(np.float32))
    assert coverage([box], 200, 200) < 0.2
    assert box.mask(200, 200)[100, 100] and not box.mask(200, 200)[60, 140]


def test_pixels_under_two_boxes_count_once():
    square = np.float32([[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]])
    once = coverage([TextBox(square, 1.0)], 100, 100)
    assert once == pytest.approx(0.25, abs=0.02)
    assert coverage([TextBox(square, 1.0)] * 2, 100, 100) == once
    assert coverage([], 100, 100) == 0


@pytest.mark.parametrize("size", [(720, 1280), (1, 1), (4320, 7680), (300, 100)])
def test_the_network_takes_multiples_of_32(size):
    height, width = network_size(*size)
    assert height % 32 == width % 32 == 0 and min(height, width) >= 32 and max(height, width) <= 672


def test_words_in_a_picture_are_found_where_they_are():
    picture = cv2.resize(data.coffee(), (640, 352))
    assert load_detector().detect(picture) == []  # a cup from above is a round letter to the net
    white, font = (255, 255, 255), cv2.FONT_HERSHEY_DUPLEX
    cv2.putText(picture, "The end of it", (200, 300), font, 1.2, white, 2)
    (box,) = load_detector().detect(picture)
    x, y = (box.corners * (640, 352)).T
    assert 180 < x.min() < 205 and 430 < x.max() < 520 and 250 < y.min() < y.max() < 330
