"""Depth follows what becomes of its pictures."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.controls import PictureChange, fit_recorded
from nemo_cosmos.controls.depth import SCENE_DEPTH
from nemo_cosmos.errors import SampleError

DEPTH = {"depth_m": np.arange(1, 49, dtype=np.float32).reshape(1, 6, 8)}


def test_it_is_cut_and_mirrored_with_the_picture():
    box = (0, 2, 6, 8)
    cut = SCENE_DEPTH.in_picture(DEPTH, PictureChange((6, 8), box))["depth_m"]
    np.testing.assert_array_equal(cut, DEPTH["depth_m"][:, :, 2:])
    mirrored = SCENE_DEPTH.in_picture(DEPTH, PictureChange((6, 8), box, 0))["depth_m"]
    np.testing.assert_array_equal(mirrored, cut[:, :, ::-1])


def test_it_is_resized_and_padded_with_the_picture():
    fitted = fit_recorded({"scene_depth": DEPTH}, (3, 4), (3, 6))["scene_depth"]["depth_m"]
    assert fitted.shape == (1, 3, 6)
    np.testing.assert_array_equal(fitted[:, :, 0], fitted[:, :, 1])  # padding is as far
    np.testing.assert_array_equal(fitted[0, :, 1:5], DEPTH["depth_m"][0, 1::2, 1::2])


def test_a_place_without_distance_is_refused():
    bad = {"depth_m": np.zeros((1, 2, 2), np.float32)}
    with pytest.raises(SampleError, match="'depth_m' that is not positive"):
        SCENE_DEPTH.check(bad, 1, "'a'")
