"""Buckets: which length and size a clip takes, and where its picture is."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.data.loading.buckets import content_box, longest_fit, nearest_size, padding_mask
from nemo_cosmos.errors import WrongFrameCountError, WrongSizeError


def test_nearest_size_goes_by_aspect_then_area():
    sizes = [(96, 128), (96, 96), (48, 64), (128, 96)]
    assert nearest_size(480, 640, sizes) == (96, 128)
    assert nearest_size(50, 66, sizes) == (48, 64)
    assert nearest_size(500, 480, sizes) == (96, 96)
    assert nearest_size(1920, 1080, sizes) == (128, 96)
    with pytest.raises(WrongSizeError, match="no bucket size"):
        nearest_size(1, 1, [])


def test_longest_fit():
    assert longest_fit(40, (17, 33, 57)) == 33
    assert longest_fit(16, (17,)) is None
    for lengths in ((), (0, 17)):
        with pytest.raises(WrongFrameCountError, match="bucket lengths"):
            longest_fit(40, lengths)


def test_mask_and_box_are_inverse():
    mask = padding_mask((8, 10), (2, 0, 6, 9))
    assert mask.shape == (1, 8, 10)
    assert mask.sum() == 80 - 4 * 9
    assert content_box(mask[0].astype(np.uint8)) == (2, 0, 6, 9)
    assert not padding_mask((8, 10)).any()


@pytest.mark.parametrize("box", [(0, 0, 9, 10), (4, 0, 4, 10), (-1, 0, 8, 10)])
def test_box_outside_the_picture(box):
    with pytest.raises(WrongSizeError, match="does not lie inside"):
        padding_mask((8, 10), box)
