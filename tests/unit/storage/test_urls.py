"""One function opens a file anywhere."""

from __future__ import annotations

import fsspec
import pytest

from nemo_cosmos.errors import MissingDependencyError, MissingFileError
from nemo_cosmos.storage import is_url, open_url


@pytest.mark.parametrize(
    ("location", "remote"),
    [("s3://bucket/key", True), ("gs://b/k", True), ("/a/b", False), ("a b.tar", False)],
)
def test_is_url(location, remote):
    assert is_url(location) is remote


def test_local_file(tmp_path):
    path = tmp_path / "with space"
    with open_url(path, "wb") as handle:
        handle.write(b"12345")
    with open_url(str(path)) as handle:
        handle.seek(2)
        assert handle.read(2) == b"34"
    with open_url(path, "rt") as handle:
        assert handle.read() == "12345"


@pytest.mark.parametrize("name", ["a*.txt", "a[1].txt", "a?.txt", "a~b.txt", "100%.txt"])
def test_special_characters_are_letters(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with open_url(tmp_path / name) as handle:
        assert handle.read() == b"x"


def test_remote_file():
    memory = fsspec.filesystem("memory")
    with open_url("memory://folder/a", "wb") as handle:
        handle.write(b"remote")
    with open_url("memory://folder/a") as handle:
        assert handle.read() == b"remote"
    memory.rm("/folder", recursive=True)


@pytest.mark.parametrize("location", ["/no/such/file", "memory://no/such/file"])
def test_missing(location):
    with pytest.raises(MissingFileError, match="cannot be opened") as caught:
        open_url(location)
    assert "\n" not in str(caught.value)


def test_folder(tmp_path):
    with pytest.raises(MissingFileError, match="cannot be opened"):
        open_url(tmp_path)


def test_unknown_scheme():
    with pytest.raises(MissingFileError, match="nosuch://"):
        open_url("nosuch://bucket/key")


def test_missing_client(monkeypatch):
    def no_client(*args, **kwargs):
        raise ImportError("Install huggingface_hub to access HfFileSystem")

    monkeypatch.setattr(fsspec.core, "url_to_fs", no_client)
    with pytest.raises(MissingDependencyError, match="Install huggingface_hub"):
        open_url("hf://bucket/key")
