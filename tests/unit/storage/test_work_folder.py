"""A run works in its output folder, or in a folder of its own for an output in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.cache import cache_dir
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.storage import work_folder_of


def test_a_folder_is_worked_in_itself(tmp_path):
    assert work_folder_of(tmp_path / "out", None) == tmp_path / "out"
    with pytest.raises(ConfigError, match="leave out --work"):
        work_folder_of(tmp_path / "out", tmp_path / "work")


def test_each_bucket_has_a_folder_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEMO_COSMOS_CACHE", str(tmp_path))
    one, same, other = (
        work_folder_of(url, None) for url in ("s3://b/out", "s3://b/out/", "s3://b/2/out")
    )
    assert one == same != other
    assert one.parent == cache_dir() / "runs" and one.name.startswith("out-")
    assert work_folder_of("s3://b/out", "here") == Path("here")


def test_a_url_that_cannot_be_written_to_is_refused():
    with pytest.raises(ConfigError, match="Nothing can be written to 'ftp://host/out'"):
        work_folder_of("ftp://host/out", None)
