"""A checklist: up to the first thing that is wrong, or through all of it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from nemo_cosmos.checklist import SAME, Check, go_through, require
from nemo_cosmos.errors import InputError, StorageFullError
from nemo_cosmos.storage import outputs
from nemo_cosmos.storage.system_errors import said_by_the_system


def wrong() -> str:
    raise InputError("there is no world")


def test_all_is_looked_at_and_a_reason_is_said_once() -> None:
    checks = [Check("a", lambda: "found"), Check("b", wrong), Check("c", wrong)]
    assert [tuple(one) for one in go_through(checks, said_by_the_system)] == [
        ("a", True, "found"),
        ("b", False, "there is no world"),
        ("c", False, SAME),
    ]
    require(checks[:1])
    with pytest.raises(InputError, match="no world"):
        require(checks)


def test_what_the_system_says_of_a_path_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    def look(path: Path) -> str:
        return path.read_text()

    places = [tmp_path / ("x" * 300), tmp_path / "loop"]
    found = go_through([Check("a", lambda p=p: look(p)) for p in places], said_by_the_system)
    assert [one.is_well for one in found] == [False, False]
    assert "name too long" in found[0].text and "symbolic links" in found[1].text
    fault = OSError("a fault of ours")

    def broken() -> str:
        raise fault

    with pytest.raises(OSError, match="a fault of ours"):
        go_through([Check("a", broken)], said_by_the_system)


@pytest.mark.parametrize("place", ["s3:/bucket/x.mp4", "htp://bucket/x.mp4", "S3:/x.mp4"])
def test_a_misspelt_url_is_no_local_folder(place: str) -> None:
    for check in (outputs.check_output_file, outputs.check_output_folder):
        with pytest.raises(InputError, match="begins like a URL"):
            check(place)


def test_no_device_is_replaced() -> None:
    with pytest.raises(InputError, match="'/dev/null' is a device"):
        outputs.check_output_file("/dev/null")


def test_links_in_a_circle_are_an_output_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    outputs.check_apart(tmp_path / "loop" / "x", [tmp_path / "loop" / "y"])


def test_folders_to_write_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outputs.check_output_folder(tmp_path / "new" / "run")
    outputs.check_output_folder("s3://bucket/place")
    assert not (tmp_path / "new").exists()
    for path in ("file", "file/run"):
        with pytest.raises(InputError, match="file"):
            outputs.check_output_folder(tmp_path / path)


def test_what_is_written_lies_apart_from_what_is_read(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    outputs.check_apart(tmp_path / "shards2", [shards, "other"])
    outputs.check_apart(tmp_path, [shards])  # inputs may lie inside
    outputs.check_apart("s3://bucket/shards", ["s3://bucket/shards"])
    with pytest.raises(InputError, match="is also read"):
        outputs.check_apart(tmp_path / "x" / ".." / "shards", [shards])
    with pytest.raises(InputError, match=r"lies inside .*shards', which is read"):
        outputs.check_apart(shards / "a" / "latents", ["other", shards])


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="needs a POSIX file system")
def test_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="Read-only file system"):
        outputs.check_output_folder(tmp_path / "run")


def test_room(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert "free" in outputs.check_room(tmp_path / "a" / "b", 1000, "videos")
    with pytest.raises(StorageFullError, match=r"The videos take about .* free. Nothing has been"):
        outputs.check_room(tmp_path / "a" / "b", 2 * free, "videos")
    assert "bucket" in outputs.check_room("s3://bucket/place", 2 * free, "videos")
