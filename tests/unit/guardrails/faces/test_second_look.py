"""Two networks agree on a face only with its eyes, nose and mouth in the same places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nemo_cosmos.guardrails.faces.boxes import Face, scaled
from nemo_cosmos.guardrails.faces.second_look import (
    LOOK_SIDE_PX,
    SecondLook,
    agree,
    cut_out,
    landmark_gap,
)

LANDMARKS = (30.0, 40.0, 50.0, 40.0, 40.0, 50.0, 32.0, 62.0, 48.0, 62.0)
FACE = Face(20, 20, 40, 60, 0.99, landmarks=LANDMARKS)


def moved(face: Face, by_px: float) -> Face:
    points = tuple(value + by_px * (index % 2) for index, value in enumerate(face.landmarks))
    return replace(face, landmarks=points)


def test_the_gap_is_a_share_of_the_box():
    assert landmark_gap(FACE, FACE) == 0
    assert landmark_gap(FACE, moved(FACE, 4.9)) == pytest.approx(0.1, rel=1e-3)
    assert landmark_gap(scaled(FACE, 3), scaled(moved(FACE, 4.9), 3)) == pytest.approx(
        0.1, rel=1e-3
    )


@pytest.mark.parametrize(
    ("retinaface", "yunet", "expected"),
    [
        (FACE, replace(FACE, score=0.8), True),
        (replace(FACE, score=0.94), FACE, False),  # pots on a stove reached 0.89
        (FACE, replace(FACE, score=0.69), False),
        (FACE, moved(FACE, 12), False),  # other eyes, or the same ones upside down
        (FACE, replace(FACE, x=50), False),
    ],
)
def test_agreement_needs_scores_place_and_landmarks(retinaface, yunet, expected):
    assert agree(retinaface, yunet) is expected


@pytest.mark.parametrize("size", [12, 60, 300])
def test_the_box_is_cut_out_in_the_middle(size):
    frame = np.zeros((400, 600, 3), np.uint8)
    frame[20 : 20 + size, 40 : 40 + size] = 250
    picture, scale = cut_out(frame, Face(40, 20, size, size, 1.0))
    assert picture.shape == (LOOK_SIDE_PX, LOOK_SIDE_PX, 3)
    assert scale == pytest.approx(LOOK_SIDE_PX / 2 / size)
    quarter = LOOK_SIDE_PX // 4
    inside = picture[quarter + 20 : -quarter - 20, quarter + 20 : -quarter - 20]
    assert inside.min() > 240
    # Where the frame ends its border is repeated; the box is at the upper left.
    assert picture[-8:, -8:].max() == 0


class Upright:
    """Finds a face in the middle if the picture's brighter half is above."""

    def __call__(self, frame_HWC):
        half = frame_HWC.shape[0] // 2
        if frame_HWC[:half].mean() <= 1.5 * frame_HWC[half:].mean():
            return []
        return [scaled(replace(FACE, x=5, y=5, width=40, height=40), 4)]


@pytest.mark.parametrize("quarters", range(4))
def test_the_box_is_looked_at_from_four_sides(quarters):
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[:50] = 200
    turned = np.ascontiguousarray(np.rot90(frame, quarters))
    box = Face(25, 25, 50, 50, 0.8)
    assert SecondLook(Upright(), Upright())(turned, box)
    assert not SecondLook(Upright(), lambda frame_HWC: [])(turned, box)
    assert not SecondLook(Upright(), Upright())(np.zeros_like(frame), box)


def test_a_face_beside_the_box_does_not_count():
    def beside(frame_HWC):
        return [replace(FACE, x=0, y=0, width=40, height=40)]

    assert not SecondLook(beside, beside)(np.zeros((100, 100, 3), np.uint8), FACE)
