"""Paths in files: written relative to their folder, and found from any working folder."""

from __future__ import annotations

import shutil

import pytest

from nemo_cosmos.storage import path_from_folder, resolve_from_folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "project" / "models" / "tok").mkdir(parents=True)
    (tmp_path / "project" / "data").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_relative_to_the_folder_whatever_was_typed(project):
    for typed in ("models/tok", "./models/../models/tok", project / "models" / "tok"):
        assert path_from_folder(typed, "data") == "../models/tok"


def test_found_from_another_working_folder_and_after_a_move(project, monkeypatch, tmp_path):
    written = path_from_folder("models/tok", "data")
    monkeypatch.chdir("/")
    assert resolve_from_folder(written, project / "data") == str(project / "models" / "tok")
    shutil.move(project, tmp_path / "moved")
    assert resolve_from_folder(written, tmp_path / "moved" / "data") == str(
        tmp_path / "moved" / "models" / "tok"
    )


def test_elsewhere_is_absolute(project):
    assert path_from_folder("/opt/tok", project / "data") == "/opt/tok"
    assert resolve_from_folder("/opt/tok", "data") == "/opt/tok"


def test_urls_stay(project):
    assert path_from_folder("s3://bucket/tok", "data") == "s3://bucket/tok"
    assert resolve_from_folder("s3://bucket/tok", "data") == "s3://bucket/tok"
    assert path_from_folder("models/tok", "s3://bucket/data") == str(project / "models" / "tok")


def test_what_earlier_releases_wrote_is_found_from_the_working_folder(project):
    assert resolve_from_folder("models/tok", "data") == "models/tok"
    assert resolve_from_folder("models/none", "data") == "data/models/none"
