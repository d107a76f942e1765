"""Users without a home have folders, too, and nobody else's."""

from __future__ import annotations

import pwd
import tempfile
from pathlib import Path

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.home import (
    can_be_made,
    expanded,
    lend_a_home,
    private_temporary_folder,
    user_folder,
)


@pytest.fixture
def without_home(monkeypatch):
    """A process as in a container: no HOME, and a user id that no table of users knows."""
    monkeypatch.delenv("HOME", raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_STATE_HOME", ".local/state"),
    ],
)
def test_a_user_without_a_home_has_folders_nowhere(monkeypatch, without_home, variable, folder):
    monkeypatch.delenv(variable, raising=False)
    assert user_folder(variable) == Path("/nonexistent") / folder / "nemo_cosmos"
    assert expanded("~/a") == Path("/nonexistent/a")
    monkeypatch.setenv(variable, "/somewhere")
    assert user_folder(variable) == Path("/somewhere/nemo_cosmos")


def test_a_lent_home_is_for_libraries_alone(monkeypatch, tmp_path, without_home):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lend_a_home()
    assert Path.home().parent == tmp_path and Path.home().is_dir()
    assert user_folder("XDG_STATE_HOME") == Path("/nonexistent/.local/state/nemo_cosmos")
    monkeypatch.setenv("HOME", str(tmp_path))
    lend_a_home()
    assert Path.home() == tmp_path


def test_what_can_be_made(tmp_path):
    (tmp_path / "file").touch()
    assert can_be_made(tmp_path / "a" / "b")
    assert not can_be_made(tmp_path / "file" / "a")


def test_a_temporary_folder_of_others_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = private_temporary_folder()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="NEMO_COSMOS_CACHE"):
        private_temporary_folder()
    folder.rmdir()
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(ConfigError, match="not a folder of yours alone"):
        private_temporary_folder()
