"""Masks and projections of frames that were resized and cropped still say where objects are."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.controls import fit_recorded
from nemo_cosmos.controls.objects import OBJECTS, fit_objects
from nemo_cosmos.errors import NemoCosmosError
from nemo_cosmos.video import center_crop, resize_frames

from .conftest import known_objects


def test_they_follow_a_resize_and_a_crop_as_pixels_do():
    known = known_objects()
    OBJECTS.check(known, 2)
    pictures = np.repeat(known["mask"][..., None] * 100, 3, axis=-1).astype(np.uint8)
    expected = center_crop(resize_frames(pictures, (80, 120)), (80, 81))[..., 0] // 100
    fitted = fit_recorded({"objects": known}, (80, 120), (80, 81))["objects"]
    OBJECTS.check(fitted, 2)
    assert (fitted["mask"] != expected).mean() < 0.02
    point = np.array([0.4, 0.3, 0.2, 1])
    before, after = (one["projection"] @ point for one in (known, fitted))
    x, y = before[:2] / before[2] * [120, 80]
    np.testing.assert_allclose(after[:2] / after[2] * [81, 80], [x - 19, y])


def test_what_a_crop_cuts_is_not_whole():
    fitted = fit_objects(known_objects(), (40, 60), (40, 46))
    np.testing.assert_array_equal(fitted["is_whole"], [[1, 0], [1, 0]])
    np.testing.assert_allclose(fitted["visible_fraction"], [[1, 3 / 8], [1, 3 / 8]])
    same = fit_objects(known_objects(), (40, 60))
    np.testing.assert_array_equal(same["is_whole"], 1)


@pytest.mark.parametrize("size", [(50, 60), (40, 71), (30, 90)])
def test_padding_adds_no_objects(size):
    known = known_objects()
    fitted = fit_objects(known, (40, 60), size)
    assert fitted["mask"].shape == (2, *size)
    assert (fitted["mask"] == 1).sum() == (known["mask"] == 1).sum()
    np.testing.assert_array_equal(fitted["is_whole"][:, 0], 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"position_m": np.zeros((2, 3, 3))}, "2 masses and 3 objects in 'position_m'"),
        ({"height_m": np.ones(1)}, "1 objects in 'height_m'"),
        ({"other_position_m": np.zeros((2, 1, 3))}, "Write all, or none"),
        ({"mask": np.full((2, 4, 6), 3, np.uint8)}, "beyond the 2"),
        ({"mass_kg": np.array([1.0, 0.0])}, "without mass"),
        ({"time_s": np.zeros(2)}, "does not grow"),
        ({"projection": np.zeros((3, 4))}, "degenerate 'projection'"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, message):
    with pytest.raises(NemoCosmosError, match=message):
        OBJECTS.check(known_objects() | changed, 2, "a clip")
