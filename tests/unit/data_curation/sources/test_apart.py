"""Results that would mix with the videos, or replace them, are refused before the work."""

from __future__ import annotations

import shutil

import pytest

from data_curation.sources.apart import check_results_apart
from data_curation.sources.find import find_sources
from data_curation.transcode import transcode
from nemo_cosmos.errors import InputError


@pytest.fixture
def videos(tmp_path):
    """Two files by the names of videos, and a list of them."""
    folder = tmp_path / "all" / "raw"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.mp4"):
        (folder / name).write_bytes(b"")
    (tmp_path / "all" / "list.txt").write_text("raw/a.mp4\nraw/sub/b.mp4\n")
    return tmp_path / "all"


def checked(location, output):
    sources = find_sources(location, output)
    check_results_apart(location, output, output, sources)
    return [clip.name for clip in sources]


@pytest.mark.parametrize(
    ("location", "output"),
    [
        ("raw", "raw"),
        ("raw", "raw/sub/../sub/out"),
        ("raw", "."),
        ("raw", "link/out"),
        ("link", "raw"),
        ("raw/a.mp4", "raw"),
        ("list.txt", "."),
        ("list.txt", "raw/sub"),
        ("raw/*/*.mp4", "raw/sub"),
        ("raw/**/*.mp4", "."),
    ],
)
def test_an_output_that_is_not_apart(videos, location, output):
    (videos / "link").symlink_to("raw")
    with pytest.raises(InputError, match=r"Choose another\s+place"):
        checked(videos / location, videos / output)


@pytest.mark.parametrize(
    ("location", "output"),
    [("raw", "raw2"), ("raw/a.mp4", "raw/out"), ("list.txt", "out"), ("raw/**/*.mp4", "raw/out")],
)
def test_an_output_apart(videos, location, output):
    found = checked(videos / location, videos / output)
    shutil.copytree(videos / "raw", videos / output / "results")
    assert checked(videos / location, videos / output) == found


@pytest.mark.parametrize(
    ("location", "output"),
    [
        ("s3://b/raw", "s3://b/raw/"),
        ("s3://b/raw", "s3://b/raw/out"),
        ("s3://b/raw", "s3://b"),
        ("s3://b/raw/*.mp4", "s3://b/raw"),
        ("s3://b/raw/list.txt", "s3://b/raw"),
    ],
)
def test_an_output_in_a_bucket_that_is_not_apart(tmp_path, location, output):
    with pytest.raises(InputError, match="Choose another place"):
        check_results_apart(location, output, tmp_path, [])


@pytest.mark.parametrize(
    ("location", "output"),
    [("s3://b/raw", "s3://b/raw2"), ("s3://b/raw/*.mp4", "s3://b/raw/out"), ("s3://b/raw", "out")],
)
def test_an_output_in_a_bucket_apart(tmp_path, location, output):
    check_results_apart(location, output, tmp_path, [])


def test_nothing_is_written_over_the_videos(raw):
    def state():
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in raw.rglob("*")}

    before = state()
    with pytest.raises(InputError, match="is also read"):
        transcode(raw, raw)
    assert state() == before
