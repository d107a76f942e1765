"""Whole videos to the profile, under their names."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_curation import CurateSettings
from data_curation.clip import Clip
from data_curation.stages.transcode import TranscodeSettings
from data_curation.transcode import names_of, transcode
from nemo_cosmos.storage import list_objects, put_object
from nemo_cosmos.video import Video, encode_video, probe

SMALL = CurateSettings(transcode=TranscodeSettings(short_side_px=32))


def shown(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in files)
    return sorted(name for name in names if not name.startswith("."))


RESULTS = ["metrics.jsonl", "rejected.jsonl", "summary.json", "timings.html"]
VIDEOS = ["a two shots.mp4", "still.mp4", "sub/robot.action.npy", "sub/robot.mp4"]


def test_each_video_comes_out_whole_in_the_profile(raw, tmp_path):
    summary = transcode(raw, tmp_path / "out", SMALL)
    assert (summary.num_sources, summary.num_clips) == (4, 3)
    assert summary.rejected == {"not_a_video": 1}
    assert shown(tmp_path / "out") == sorted(VIDEOS + RESULTS)
    info = probe(tmp_path / "out" / "a two shots.mp4")
    assert (info.height, info.width, info.num_frames) == (32, 48, 45)
    assert len(np.load(tmp_path / "out" / "sub" / "robot.action.npy")) == 23
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["num_clips"] == 3 and written["settings"]["short_side_px"] == 32


def test_a_second_run_goes_on(raw, tmp_path):
    transcode(raw, tmp_path / "out", SMALL)
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in VIDEOS}
    (tmp_path / "out" / "still.mp4").unlink()
    scene = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3)).astype(np.uint8)
    encode_video(raw / "new.mp4", Video(scene, fps=10))
    summary = transcode(raw, tmp_path / "out", SMALL)
    assert (summary.num_clips, summary.num_reused) == (4, 4)
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in VIDEOS} == before
    transcode(raw, tmp_path / "out", CurateSettings())
    assert probe(tmp_path / "out" / "still.mp4").height == 64


def test_from_a_bucket_into_a_bucket(raw, bucket, tmp_path):
    for path in raw.rglob("*.*"):
        put_object(path, f"{bucket}/raw/{path.relative_to(raw).as_posix()}")
    transcode(f"{bucket}/raw", f"{bucket}/out", SMALL, work=tmp_path / "work")
    transcode(raw, tmp_path / "local", SMALL)
    found = {item.url.removeprefix(f"{bucket}/out/") for item in list_objects(f"{bucket}/out")}
    assert found == {*VIDEOS, "rejected.jsonl", "summary.json"}
    for name in VIDEOS:
        assert (tmp_path / "work" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_no_two_videos_share_a_name(tmp_path):
    names = ["a.mp4", "a.mov", "b.avi", "c.1.mp4", "../b.avi", "/x/b.avi", "s3://bucket/b.avi"]
    names += ["d.mov", "d.avi", "d.mov.mp4"]
    clips = [Clip(source=tmp_path, name=name, clip_id=f"id{at}") for at, name in enumerate(names)]
    assert names_of(clips) == [
        "a.mp4",
        "a.mov",
        "b",
        "c.1",
        "id4/b",
        "id5/b",
        "id6/b",
        "id7/d",
        "d.avi",
        "id9/d.mov",
    ]


@pytest.mark.parametrize("as_json", [True, False])
def test_command(raw, tmp_path, run_cli, as_json):
    words = [raw, tmp_path / "out", "--short-side", 32, "--executor", "inline"]
    ran = run_cli("transcode", *words, *(["--json"] if as_json else []))
    assert ran.code == 0
    if as_json:
        assert ran.json["num_clips"] == 3
    else:
        assert "3 of 4 videos" in ran.out and "1 not_a_video" in ran.out
