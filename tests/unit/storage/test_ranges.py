"""Parts of files: mapped or by ranged reads, and never of another version of the file."""

from __future__ import annotations

import os

import fsspec
import pytest

from nemo_cosmos.errors import MissingDependencyError, MissingFileError
from nemo_cosmos.storage import FileStamp, read_ranges, stamp_of, write_bytes

CONTENT = bytes(range(256)) * 4


@pytest.fixture(params=["local", "memory"])
def location(request, tmp_path):
    if request.param == "local":
        (tmp_path / "file").write_bytes(CONTENT)
        yield str(tmp_path / "file")
        return
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/ranges/file", CONTENT)
    yield "memory://ranges/file"
    memory.rm("/ranges", recursive=True)


def test_parts_in_any_order(location):
    parts = read_ranges(location, stamp_of(location), [(700, 10), (0, 3), (4, 0), (1020, 4)])
    assert parts == [CONTENT[700:710], CONTENT[:3], b"", CONTENT[1020:]]


def test_part_behind_the_end_is_cut(location):
    assert read_ranges(location, stamp_of(location), [(1020, 100)]) == [CONTENT[1020:]]


def test_stamp_is_size_and_time(location):
    first = stamp_of(location)
    assert first.size_bytes == len(CONTENT)
    assert first.mtime_ns > 1e18, "not nanoseconds since 1970"
    assert stamp_of(location) == first
    write_bytes(location, b"other")
    assert stamp_of(location) != first


def test_missing_file(location):
    with pytest.raises(MissingFileError, match="cannot be opened"):
        stamp_of(location + "-none")
    with pytest.raises(MissingFileError, match="cannot be opened"):
        read_ranges(location + "-none", FileStamp(1, 1), [(0, 1)])


def test_one_request_over_a_small_gap_and_several_over_a_large_one(monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/gaps", bytes(1_000_000))
    requests = []
    real = type(memory).cat_file

    def counting(self, path, start=None, end=None, **options):
        requests.append((start, end))
        return real(self, path, start=start, end=end, **options)

    monkeypatch.setattr(type(memory), "cat_file", counting)
    stamp = stamp_of("memory://gaps")
    read_ranges("memory://gaps", stamp, [(512, 100), (1024, 400)])
    assert requests == [(512, 1424)]
    parts = read_ranges("memory://gaps", stamp, [(0, 10), (900_000, 10)])
    assert requests[1:] == [(0, 10), (900_000, 900_010)]
    assert parts == [bytes(10)] * 2
    memory.rm("/gaps")


def test_another_version_of_a_local_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    stamp = stamp_of(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(MissingFileError, match="changed since it was indexed"):
        read_ranges(str(path), stamp, [(0, 1)])


def test_a_file_that_shrinks_while_it_is_mapped_does_not_kill_the_process(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))
    stamp = stamp_of(path)
    assert read_ranges(str(path), stamp, [(900_000, 10)]) == [bytes(10)]
    os.truncate(path, 10)
    assert read_ranges(str(path), stamp, [(900_000, 10), (4, 100)]) == [b"", bytes(6)]


@pytest.mark.parametrize(
    ("time", "expected"),
    [("2026-01-02T03:04:05+00:00", 1767323045), (1767323045.0, 1767323045), (None, 0)],
)
def test_times_as_object_stores_give_them(monkeypatch, time, expected):
    class Store:
        def info(self, path):
            return {"size": 3, "updated": time}

    monkeypatch.setattr("nemo_cosmos.storage.ranges.filesystem_of", lambda name: (Store(), name))
    assert stamp_of("gs://bucket/file") == FileStamp(3, expected * 10**9)


def test_scheme_without_its_client(monkeypatch):
    def missing(name):
        raise ImportError("Install huggingface_hub")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(MissingDependencyError, match="Install huggingface_hub"):
        stamp_of("hf://bucket/file")
