"""Bins: the edges of cosmos-curate, and nothing dropped."""

from __future__ import annotations

import pytest

from nemo_cosmos.data.shards.layout import (
    aspect_ratio_bin,
    bin_folder,
    duration_bin,
    resolution_bin,
    shard_name,
)
from nemo_cosmos.errors import SampleError


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (1920, 1080, "1080"),
        (1080, 1920, "1080"),
        (1919, 1079, "720"),
        (720, 720, "720"),
        (1280, 719, "lt_720"),
        (96, 64, "lt_720"),
    ],
)
def test_resolution_goes_by_the_shorter_side(width, height, expected):
    assert resolution_bin(width, height) == expected


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (9, 16, "9_16"),
        (65, 100, "9_16"),
        (66, 100, "3_4"),
        (88, 100, "3_4"),
        (1, 1, "1_1"),
        (116, 100, "1_1"),
        (4, 3, "4_3"),
        (155, 100, "4_3"),
        (156, 100, "16_9"),
        (1000, 100, "16_9"),
        (3000, 100, "16_9"),
    ],
)
def test_aspect_edges_belong_to_the_lower_bin(width, height, expected):
    assert aspect_ratio_bin(width, height) == expected


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0.1, "0_5"),
        (4.999, "0_5"),
        (5, "5_10"),
        (10, "5_10"),
        (10.01, "10_30"),
        (30, "10_30"),
        (31, "30_inf"),
        (1e6, "30_inf"),
    ],
)
def test_duration_edges_belong_to_the_first_bin(duration_s, expected):
    assert duration_bin(duration_s) == expected


def test_folder():
    assert bin_folder(1280, 720, 6) == "v0/resolution_720/aspect_ratio_16_9/duration_5_10"
    assert shard_name(2, 13) == "part_000002/000013.tar"


@pytest.mark.parametrize("values", [(0, 10, 1), (10, 0, 1), (10, 10, 0), (10, 10, float("nan"))])
def test_impossible_clip(values):
    with pytest.raises(SampleError, match="fits no bin"):
        bin_folder(*values)
