"""The cache folder follows its own variable, then the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.cache import CACHE_VARIABLE, cache_dir


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({CACHE_VARIABLE: "/c", "XDG_CACHE_HOME": "/x"}, Path("/c")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/nemo_cosmos")),
        ({"HOME": "/home/me"}, Path("/home/me/.cache/nemo_cosmos")),
        ({CACHE_VARIABLE: "~/c", "HOME": "/home/me"}, Path("/home/me/c")),
    ],
)
def test_cache_folder(monkeypatch, environment, expected):
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == expected
