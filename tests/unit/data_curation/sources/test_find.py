"""What the decoder can open is a source; every other file is counted."""

from __future__ import annotations

import os
from collections import Counter

import cv2
import numpy as np
import pytest

from data_curation.pipeline import curate
from data_curation.settings import CurateSettings
from data_curation.sources.find import find_sources
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.testing.odd_videos.writing import write


@pytest.fixture
def folder(tmp_path):
    """Videos of known, unknown and no ending, beside files of every other kind."""
    folder = tmp_path / "raw"
    (folder / ".cache").mkdir(parents=True)
    for name in ("a.MTS", "b.gif"):
        write(
            folder / name,
            container=None if name == "b.gif" else "mpegts",
            **({"codec": "gif", "pix_fmt": "rgb8", "rate": 20} if name == "b.gif" else {}),
        )
    write(folder / "recording.0001", container="mp4")
    write(folder / "no ending", container="matroska")
    write(folder / "._a.mp4", container="mp4")
    write(folder / ".cache" / "b.mp4")
    np.save(folder / "a.action.npy", np.zeros((23, 7)))
    np.save(folder / "stray.npy", np.zeros(3))
    (folder / "a.json").write_text("{}")
    (folder / "annotations.json").write_text("{}")
    (folder / "readme").write_text("no video " * 200)
    (folder / "notes.0002").write_text("no video " * 200)
    (folder / "noise.bin").write_bytes(np.random.default_rng(0).bytes(50_000))
    cv2.imwrite(str(folder / "photo.png"), np.zeros((9, 9, 3), np.uint8))
    (folder / "photo.png").rename(folder / "photo.0003")
    os.mkfifo(folder / "pipe")
    return folder


def test_endings_known_unknown_and_none(folder, tmp_path):
    ignored: Counter[str] = Counter()
    found = find_sources(folder, tmp_path / "out", "", ignored)
    assert [clip.name for clip in found] == ["a.MTS", "b.gif", "no ending", "recording.0001"]
    assert ignored == {
        ".npy": 1, ".json": 1, ".0002": 1, ".0003": 1, ".bin": 1, "(no ending)": 2,
        ".mp4 (hidden)": 2,
    }  # fmt: skip


def test_whatever_a_list_names_is_accounted_for(folder, tmp_path):
    names = ["# mine", "a.MTS", "readme", ".cache/b.mp4", "gone.xyz", "", ".cache", "a.MTS"]
    (folder / "list.txt").write_text("\n".join(names))
    ignored: Counter[str] = Counter()
    found = find_sources(folder / "list.txt", tmp_path / "out", "", ignored)
    assert [clip.name for clip in found] == [
        ".cache",
        ".cache/b.mp4",
        "a.MTS",
        "gone.xyz",
        "readme",
    ]
    assert ignored == {"listed twice": 1}


def test_a_single_file_may_have_any_ending(folder, tmp_path):
    (clip,) = find_sources(folder / "recording.0001", tmp_path / "out")
    assert clip.name == "recording.0001"


def test_a_pattern_is_searched_like_a_folder(folder, tmp_path):
    ignored: Counter[str] = Counter()
    found = find_sources(f"{folder}/*.000*", tmp_path / "out", "", ignored)
    assert [clip.name for clip in found] == ["recording.0001"]
    assert ignored == {".0002": 1, ".0003": 1}


def test_an_input_without_video_says_what_it_holds(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.npy").touch()
    with pytest.raises(MissingFileError, match=r"holds no video \(it holds 1 \.npy\)"):
        find_sources(tmp_path / "raw", tmp_path / "out")


def test_the_summary_has_the_counts(folder, tmp_path):
    (folder / "list.txt").write_text("readme\n.cache\ngone.xyz\n.cache/b.mp4")
    settings = CurateSettings(skip=("camera", "text_overlay", "embed", "video_type"))
    summary = curate(folder / "list.txt", tmp_path / "out", settings)
    assert summary.num_sources == 4
    assert summary.rejected == {"not_a_video": 1, "too_short": 1, "unreadable": 2}
    assert curate(folder / "*.000*", tmp_path / "2", settings).ignored == {".0002": 1, ".0003": 1}


def test_links_in_a_circle_are_no_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(MissingFileError, match="'loop' does not exist"):
        curate("loop", tmp_path / "out", CurateSettings())
