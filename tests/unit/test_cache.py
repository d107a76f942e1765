"""The cache folder follows its own variable, then the user's, and needs no home."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from nemo_cosmos.cache import CACHE_VARIABLE, cache_dir


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({CACHE_VARIABLE: "/c", "XDG_CACHE_HOME": "/x"}, "/c"),
        ({"XDG_CACHE_HOME": "{home}/x"}, "{home}/x/nemo_cosmos"),
        ({"HOME": "{home}"}, "{home}/.cache/nemo_cosmos"),
        ({CACHE_VARIABLE: "~/c", "HOME": "{home}"}, "{home}/c"),
    ],
)
def test_cache_folder(monkeypatch, tmp_path, environment, expected):
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    assert cache_dir() == Path(expected.format(home=tmp_path))


def test_without_a_home_it_is_among_the_temporary_files(monkeypatch, tmp_path):
    (tmp_path / "home").touch()  # no folder, so that even root cannot make one in it
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = cache_dir()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert cache_dir() == folder
