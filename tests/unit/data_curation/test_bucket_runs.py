"""Curation from a bucket into a bucket: the same bytes as from a folder into a folder."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from data_curation import OPTIONAL_STAGES, CurateSettings, SplitSettings, curate
from data_curation.executors import build_executor
from data_curation.sources.find import find_sources
from nemo_cosmos.errors import ConfigError, InputError, MissingFileError
from nemo_cosmos.storage import (
    delete_object,
    list_objects,
    open_url,
    put_object,
    stamp_of,
    write_bytes,
)

SETTINGS = CurateSettings(split=SplitSettings(min_clip_s=1), skip=OPTIONAL_STAGES)
OF_THE_RUN = ("metrics.jsonl", "timings.html")


@pytest.fixture
def raw_url(raw, bucket):
    """The folder ``raw`` in a bucket."""
    for path in raw.rglob("*"):
        if path.is_file():
            put_object(path, f"{bucket}/raw/{path.relative_to(raw).as_posix()}")
    return f"{bucket}/raw"


def on_disk(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if name not in OF_THE_RUN and not name.startswith(".")
    }


def in_bucket(url):
    found = {}
    for item in list_objects(url):
        with open_url(item.url) as handle:
            found[item.url.removeprefix(f"{url}/")] = hashlib.sha256(handle.read()).hexdigest()
    return found


def test_bucket_to_bucket_gives_the_bytes_of_folder_to_folder(raw, raw_url, bucket, tmp_path):
    local = curate(raw, tmp_path / "local", SETTINGS)
    work = tmp_path / "work"
    assert curate(raw_url, f"{bucket}/set", SETTINGS, work=work) == local
    assert in_bucket(f"{bucket}/set") == on_disk(tmp_path / "local") == on_disk(work)
    assert not (work / ".work" / "fetched").exists() or not any(
        (work / ".work" / "fetched").iterdir()
    )


@pytest.mark.slow
def test_actors_of_a_cluster_fetch_from_the_bucket(raw, raw_url, bucket, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'nemo-cosmos[curation]'")
    local = curate(raw, tmp_path / "local", SETTINGS)
    on_ray = build_executor("ray")
    assert curate(raw_url, f"{bucket}/set", SETTINGS, on_ray, work=tmp_path / "work") == local
    assert in_bucket(f"{bucket}/set") == on_disk(tmp_path / "local")


def test_the_next_run_works_on_and_puts_only_what_is_new(raw, raw_url, bucket, tmp_path):
    output, work = f"{bucket}/set", tmp_path / "work"
    first = curate(raw_url, output, SETTINGS, work=work)
    stamps = {item.url: stamp_of(item.url) for item in list_objects(output)}
    again = curate(raw_url, output, SETTINGS, work=work)
    assert again.num_reused == first.num_sources == 4
    assert {item.url: stamp_of(item.url) for item in list_objects(output)} == stamps
    put_object(raw / "sub" / "robot.mp4", f"{bucket}/raw/zz.mp4")
    assert curate(raw_url, output, SETTINGS, work=work).num_sources == 5
    assert in_bucket(output) == on_disk(work)


def test_a_killed_run_goes_on(raw, raw_url, bucket, tmp_path):
    program = textwrap.dedent(
        """
        import sys
        from data_curation import OPTIONAL_STAGES, CurateSettings, SplitSettings, curate
        settings = CurateSettings(split=SplitSettings(min_clip_s=1), skip=OPTIONAL_STAGES)
        curate(sys.argv[1], sys.argv[2], settings, work=sys.argv[3])
        """
    )
    output, work = f"{bucket}/set", tmp_path / "work"
    command = [sys.executable, "-c", program, raw_url, output, str(work)]
    for when in ("a source is being copied", "an upload has begun"):
        process = subprocess.Popen(command)
        while process.poll() is None:
            copied = any((work / ".work" / "fetched").glob("*/*"))
            if copied if when.startswith("a source") else any(list_objects(output)):
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait()
    curate(raw_url, output, SETTINGS, work=work)
    curate(raw, tmp_path / "local", SETTINGS)
    assert in_bucket(output) == on_disk(tmp_path / "local")


def test_inputs_of_each_kind_name_the_same_sources(raw, raw_url, tmp_path):
    def names(location):
        return [clip.name for clip in find_sources(location, tmp_path / "run")]

    assert names(f"{raw_url}/") == names(raw)
    for pattern in ("*.mp4", "**/*.mp4", "s*/robot.*", "**/[rs]*.mp4", "a two*"):
        assert names(f"{raw_url}/{pattern}") == names(f"{raw}/{pattern}"), pattern
    assert names(f"{raw_url}/sub/robot.mp4") == names(raw / "sub" / "robot.mp4") == ["robot.mp4"]


def test_lists_mix_folders_and_buckets(raw, raw_url, bucket, tmp_path):
    (tmp_path / "list.txt").write_text(f"{raw_url}/sub/robot.mp4\nraw/still.mp4\n")
    here, there = find_sources(tmp_path / "list.txt", tmp_path / "run")
    assert (here.name, there.name) == ("raw/still.mp4", f"{raw_url}/sub/robot.mp4")
    assert [path.name for path in there.arrays] == ["robot.action.npy"]
    (tmp_path / "other.txt").write_text("sub/robot.mp4\ngone.mp4\n")
    put_object(tmp_path / "other.txt", f"{raw_url}/list.txt")
    summary = curate(f"{raw_url}/list.txt", tmp_path / "out", SETTINGS)
    assert (summary.num_clips, summary.rejected) == (1, {"unreadable": 1})


def test_hidden_objects_and_results_are_no_sources(raw, raw_url, bucket, tmp_path):
    put_object(raw / "still.mp4", f"{raw_url}/.hidden/a.mp4")
    put_object(raw / "still.mp4", f"{raw_url}/out/v0/a.mp4")
    found = find_sources(raw_url, tmp_path / "run", f"{raw_url}/out")
    assert [clip.name for clip in found] == [
        "a two shots.mp4",
        "broken.mp4",
        "still.mp4",
        "sub/robot.mp4",
    ]


def test_an_object_that_vanishes_is_a_counted_rejection(raw_url, tmp_path, monkeypatch):
    from data_curation import run

    def find_and_lose(*arguments):
        found = find_sources(*arguments)
        delete_object(f"{raw_url}/sub/robot.mp4")
        return found

    monkeypatch.setattr(run, "find_sources", find_and_lose)
    summary = curate(raw_url, tmp_path / "out", SETTINGS)
    assert summary.rejected == {"motion": 1, "not_a_video": 1, "unreadable": 1}
    assert summary.num_clips == 2


def test_a_place_that_holds_something_is_refused_before_any_work(raw_url, bucket, tmp_path):
    with pytest.raises(ConfigError, match="is not empty"):
        curate(raw_url, bucket, SETTINGS, work=tmp_path / "work")
    assert not (tmp_path / "work" / ".work").exists()


@pytest.mark.parametrize(
    ("source", "output", "error"),
    [
        ("s3://no-such-bucket/raw", "out", MissingFileError),
        ("{bucket}/nothing", "out", MissingFileError),
        ("http://127.0.0.1/raw", "out", MissingFileError),
        ("raw", "s3://no-such-bucket/out", MissingFileError),
        ("raw", "ftp://host/out", ConfigError),
    ],
)
def test_places_that_cannot_be_used(raw, bucket, tmp_path, monkeypatch, source, output, error):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEMO_COSMOS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(error) as caught:
        curate(source.format(bucket=bucket), output, SETTINGS)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="leave out --work"):
        curate(raw, tmp_path / "out", SETTINGS, work=tmp_path / "work")


def test_a_robot_data_set_in_a_bucket_is_refused(raw_url, tmp_path):
    write_bytes(f"{raw_url}/meta/info.json", b"{}")
    with pytest.raises(InputError, match="nemo-cosmos convert lerobot"):
        curate(raw_url, tmp_path / "out", SETTINGS)
    delete_object(f"{raw_url}/meta/info.json")
    write_bytes(f"{raw_url}/annotation/train/7.json", b"{}")
    with pytest.raises(InputError, match="nemo-cosmos convert bridge"):
        curate(raw_url, tmp_path / "out", SETTINGS)
