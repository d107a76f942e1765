"""BRISQUE's features and scores are those that the package brisque 0.2.0, run once, computes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from data_curation.quality.brisque import brisque, features

# fmt: off
GOLDEN_FEATURES = [
    1.44119, 0.19841, 0.57536, 0.0106, 0.05024, 0.05868, 0.56829, 0.01392, 0.05119,
    0.06257, 0.57989, -0.0222, 0.06467, 0.0469, 0.58977, -0.02711, 0.06544, 0.04412,
    1.58278, 0.23192, 0.57804, -0.00026, 0.08076, 0.08051, 0.57939, 0.01271, 0.07982,
    0.0925, 0.59048, -0.02243, 0.08926, 0.06808, 0.60023, -0.0398, 0.09776, 0.06052,
]
# fmt: on


def test_golden_features():
    assert features(astronaut()) == pytest.approx(GOLDEN_FEATURES, abs=2e-5)


def test_golden_scores():
    picture = astronaut()
    assert brisque(picture) == pytest.approx(10.795, abs=0.01)
    assert brisque(cv2.GaussianBlur(picture, (0, 0), 3)) == pytest.approx(76.330, abs=0.01)
    noise = np.random.default_rng(0).normal(0, 25, picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    assert brisque(noisy) == pytest.approx(51.537, abs=0.01)


def test_a_flat_picture_has_finite_features():
    assert np.isfinite(features(np.full((64, 64, 3), 90, np.uint8))).all()
