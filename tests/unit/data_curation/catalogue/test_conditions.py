"""Conditions of a search as a person writes them."""

from __future__ import annotations

import pytest

from data_curation.catalogue import parse_conditions
from nemo_cosmos.errors import ConfigError


def test_conditions():
    parsed = parse_conditions(["width>=1280", "scores.motion < 0.1", "key!=k1", "width<=1920"])
    assert parsed == {
        "width": {"$gte": 1280, "$lte": 1920},
        "scores.motion": {"$lt": 0.1},
        "key": {"$ne": "k1"},
    }
    with pytest.raises(ConfigError, match="'wide' is not a condition"):
        parse_conditions(["wide"])
