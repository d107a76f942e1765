"""Writes are whole or not there: errors, a full disk, a kill in the middle."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_cosmos.errors import NemoCosmosError, StorageFullError
from nemo_cosmos.storage import atomic, atomic_path, clean_up


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestFiles:
    def test_file_appears_when_the_block_ends(self, tmp_path):
        target = tmp_path / "new folder" / "a.txt"
        with atomic_path(target) as temporary:
            temporary.write_text("new")
            assert not target.exists()
            assert temporary.parent == target.parent, "a rename between disks is not atomic"
        assert target.read_text() == "new"
        assert names(target.parent) == ["a.txt"]

    def test_file_is_replaced(self, tmp_path):
        (tmp_path / "a.txt").write_text("old")
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
            assert (tmp_path / "a.txt").read_text() == "old"
        assert (tmp_path / "a.txt").read_text() == "new"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
    def test_error_leaves_the_old_file_and_nothing_else(self, tmp_path, error):
        (tmp_path / "a.txt").write_text("old")
        with pytest.raises(error), atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error
        assert (tmp_path / "a.txt").read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_suffix_is_kept_for_libraries_that_look_at_it(self, tmp_path):
        with atomic_path(tmp_path / "clip.mp4") as temporary:
            assert temporary.suffix == ".mp4"
            temporary.touch()

    def test_text_path_and_relative_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with atomic_path("a.txt") as temporary:
            temporary.write_text("x")
        assert names(tmp_path) == ["a.txt"]

    def test_block_that_writes_nothing_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
            pass
        assert names(tmp_path) == []


class TestFolders:
    def write(self, target: Path, content: str) -> None:
        with atomic_path(target) as temporary:
            (temporary / "inner").mkdir(parents=True)
            (temporary / "inner" / "file").write_text(content)

    def test_folder_appears_whole(self, tmp_path):
        self.write(tmp_path / "model", "1")
        assert (tmp_path / "model" / "inner" / "file").read_text() == "1"
        assert names(tmp_path) == ["model"]

    def test_folder_replaces_a_folder_and_what_was_in_it(self, tmp_path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "stale").touch()
        self.write(tmp_path / "model", "2")
        assert names(tmp_path / "model") == ["inner"]
        assert names(tmp_path) == ["model"]

    def test_failed_rename_puts_the_old_folder_back(self, tmp_path, monkeypatch):
        self.write(tmp_path / "model", "old")
        real = Path.rename

        def rename(path, target):
            if path.name.startswith(".tmp-") and "-old-" not in path.name:
                raise OSError(errno.EIO, "Input/output error")
            return real(path, target)

        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(OSError, match="Input/output"):
            self.write(tmp_path / "model", "new")
        monkeypatch.undo()
        assert (tmp_path / "model" / "inner" / "file").read_text() == "old"
        assert names(tmp_path) == ["model"]


class TestFullDisk:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    def test_error_of_the_write_is_explained(self, tmp_path, code):
        (tmp_path / "a.txt").write_text("old")
        with (
            pytest.raises(
                StorageFullError, match=r"a\.txt' \(\d+ MB free\).*same command"
            ) as caught,
            atomic_path(tmp_path / "a.txt") as temporary,
        ):
            temporary.write_text("half")
            raise OSError(code, os.strerror(code))
        assert isinstance(caught.value, OSError)
        assert isinstance(caught.value, NemoCosmosError)
        assert "\n" not in str(caught.value)
        assert (tmp_path / "a.txt").read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_error_of_the_flush_is_explained(self, tmp_path, monkeypatch):
        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(atomic.os, "fsync", full)
        with pytest.raises(StorageFullError), atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
        assert names(tmp_path) == []

    def test_nested_writes_are_explained_once(self, tmp_path):
        with (
            pytest.raises(StorageFullError, match="inner"),
            atomic_path(tmp_path / "outer") as outer,
        ):
            outer.mkdir()
            with atomic_path(outer / "inner") as temporary:
                temporary.touch()
                raise OSError(errno.ENOSPC, "No space left on device")
        assert names(tmp_path) == []

    def test_other_errors_stay_what_they_are(self, tmp_path):
        with pytest.raises(PermissionError), atomic_path(tmp_path / "a"):
            raise PermissionError(errno.EACCES, "Permission denied")

    def test_a_disk_that_is_really_full(self, tmp_path):
        """On a tmpfs of 256 KiB, where this machine lets us make one."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("mounting a tmpfs needs root")
        try:
            (disk / "keep").write_bytes(b"x" * 1000)
            with pytest.raises(StorageFullError), atomic_path(disk / "keep") as temporary:
                temporary.write_bytes(b"y" * 1_000_000)
            assert (disk / "keep").read_bytes() == b"x" * 1000
            assert names(disk) == ["keep"]
        finally:
            subprocess.run(["umount", str(disk)], check=True)


PROGRAM = """
import sys, time
from nemo_cosmos.storage import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_killed_process_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert target.read_text() == "old"
    leftovers = [name for name in names(tmp_path) if name != "a.txt"]
    assert all(name.startswith(".tmp-") for name in leftovers)


def test_a_folder_that_was_moved_aside_goes_back_unless_it_was_replaced(tmp_path):
    for name in ("model", "other"):
        (tmp_path / f".tmp-0123abcd-old-{name}").mkdir()
        (tmp_path / f".tmp-0123abcd-old-{name}" / "file").write_text(name)
    (tmp_path / "other").mkdir()
    (tmp_path / ".tmp-4567cdef-model").mkdir()
    (tmp_path / ".tmp-4567cdef-notes.txt").touch()
    for leftover in list(tmp_path.glob(".tmp-*")):
        clean_up(leftover)
    assert names(tmp_path) == ["model", "other"]
    assert (tmp_path / "model" / "file").read_text() == "model"
    assert names(tmp_path / "other") == []


def test_parallel_writers_do_not_disturb_each_other(tmp_path):
    with atomic_path(tmp_path / "a") as first, atomic_path(tmp_path / "a") as second:
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a").read_text() in "12"
    assert names(tmp_path) == ["a"]
