"""The whole road: shards, counted reasons, bad input, kill and re-run."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_curation import SplitSettings, curate, frames, worker
from data_curation.clip import Clip
from data_curation.journal import Journal
from data_curation.sources.find import find_sources
from data_curation.stages.base import Stage, check_order
from data_curation.stages.motion import MotionStage
from data_curation.stages.probe import ProbeStage
from data_curation.stages.transcode import TranscodeStage
from data_curation.stages.words import WordsStage
from data_curation.store import ClipStore
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, StorageFullError
from nemo_cosmos.exits import Exit, saved_or_too_short
from nemo_cosmos.video import Video, decode, encode_video

sys.path.append(str(Path(__file__).parent))  # what tests share is imported by name
from curation_workers import SETTINGS, tree


def test_raw_video_becomes_shards(raw, tmp_path):
    output = tmp_path / "out"
    summary = curate(raw, output, SETTINGS)
    assert summary.num_clips == 3
    assert summary.rejected == {"motion": 1, "not_a_video": 1}
    samples = {(s.record.source, s.record.span_s): s for s in read_samples(output)}
    assert sorted(samples) == [
        ("a two shots.mp4", (0.0, 1.9)),
        ("a two shots.mp4", (2.1, 4.5)),
        ("sub/robot.mp4", (0.0, 2.4)),
    ]
    robot = samples["sub/robot.mp4", (0.0, 2.4)]
    assert robot.record.caption == "push the red block"
    assert robot.record.extra["task"] == "push"
    assert robot.array("action.npy").shape == (23, 7)
    robot.verify()
    assert decode(robot.read("mp4")).num_frames == robot.record.num_frames == 24
    assert samples["a two shots.mp4", (0.0, 1.9)].record.caption_source == "template"
    assert (output / "v0/resolution_lt_720/aspect_ratio_4_3/duration_0_5/wdinfo.json").exists()


def test_summary_rejections_metrics_and_report(raw, tmp_path):
    output = tmp_path / "out"
    (raw / "<script>&\n é.mp4").write_bytes(b"no video")
    summary = curate(raw, output, SETTINGS)
    content = json.loads((output / "summary.json").read_text())
    assert content["rejected"] == summary.rejected == {"motion": 1, "not_a_video": 2}
    assert content["stages"]["split"] == [3, 4]
    assert content["left_out_s"] == summary.left_out_s == 0.2  # on both sides of the cut
    lines = [json.loads(line) for line in (output / "rejected.jsonl").read_text().splitlines()]
    assert sum(content["rejected"].values()) == len(lines)
    assert all(line["stage"] and line["detail"] for line in lines)
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["clips"] for line in metrics[:-1]] == [0, 2, 0, 0, 1]
    assert metrics[-1]["event"] == "run" and metrics[-1]["sources"] == 5
    assert metrics[-1]["stages"]["split"]["clips"] == 3
    run, stages = metrics[-1], metrics[-1]["stages"]
    assert list(stages) == [*content["stages"], "shard"]
    assert {name: stages[name]["clips"] for name in content["stages"]} == {
        name: entered for name, (entered, _) in content["stages"].items()
    }
    assert stages["probe"]["video_s"] == stages["split"]["video_s"] == pytest.approx(9.4)
    assert stages["motion"]["video_s"] == pytest.approx(9.2)
    assert stages["shard"]["video_s"] == pytest.approx(6.7)
    assert all(cost["clips_per_s"] > 0 and cost["wall_s"] > 0 for cost in stages.values())
    assert (run["clips"], run["video_s"]) == (3, pytest.approx(9.4))
    assert run["clips_per_s"] == pytest.approx(3 / run["elapsed_s"], rel=0.01)
    assert "transcode" in (output / "timings.html").read_text()
    report = (output / "report.html").read_text()
    assert report.count('<img src="data:image/jpeg;base64,') == 4
    assert "&lt;script&gt;" in report and "<script>" not in report
    assert "push the red block (sidecar)" in report
    assert "not_a_video" in report


def test_clip_ids_and_bytes_do_not_depend_on_where_the_folder_lies(raw, tmp_path):
    curate(raw, tmp_path / "out", SETTINGS)
    shutil.copytree(raw, tmp_path / "else where" / "raw")
    curate(tmp_path / "else where" / "raw", tmp_path / "out2", SETTINGS)
    assert tree(tmp_path / "out") == tree(tmp_path / "out2")


def test_a_second_run_reuses_everything(raw, tmp_path, monkeypatch):
    output = tmp_path / "out"
    first = curate(raw, output, SETTINGS)
    before = tree(output)
    monkeypatch.setattr(ProbeStage, "process", lambda self, clip: pytest.fail("worked again"))
    second = curate(raw, output, SETTINGS)
    assert tree(output) == before
    assert second == replace(first, num_reused=4)
    assert not [path for path in (output / ".work" / "clips").rglob("*") if path.is_file()]


def test_new_changed_and_removed_sources(raw, tmp_path, scene):
    output = tmp_path / "out"
    curate(raw, output, SETTINGS)
    encode_video(raw / "new.mp4", Video(scene(9, 20), fps=10))
    (raw / "sub" / "robot.json").write_text(json.dumps({"caption": "other words"}))
    (raw / "broken.mp4").unlink()
    summary = curate(raw, output, SETTINGS)
    assert (summary.num_reused, summary.num_clips) == (2, 4)
    assert "other words" in {sample.record.caption for sample in read_samples(output)}
    curate(raw, tmp_path / "fresh", SETTINGS)
    assert tree(output) == tree(tmp_path / "fresh")


def test_other_settings_start_anew(raw, tmp_path):
    curate(raw, tmp_path / "out", SETTINGS)
    other = replace(SETTINGS, split=SplitSettings(method="none", min_clip_s=1))
    summary = curate(raw, tmp_path / "out", other)
    assert (summary.num_reused, summary.num_clips) == (0, 2)


def test_shards_are_cut_at_the_size(raw, tmp_path):
    curate(raw, tmp_path / "out", replace(SETTINGS, max_shard_bytes=1000))
    tars = list((tmp_path / "out").rglob("video/part_*/*.tar"))
    assert len(tars) == 3


@pytest.mark.parametrize(
    "error", [StorageFullError("No space left"), OSError(errno.ENOSPC, "No space left on device")]
)
def test_a_full_disk_ends_the_run_and_keeps_what_was_written(
    raw, tmp_path, monkeypatch, scene, error
):
    output = tmp_path / "out"
    curate(raw, output, SETTINGS)
    before = tree(output)
    encode_video(raw / "new.mp4", Video(scene(9, 20), fps=10))

    def full(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(WordsStage, "process", full)
        with pytest.raises(StorageFullError, match="No space left"):
            curate(raw, output, SETTINGS)
    assert tree(output) == before
    assert curate(raw, output, SETTINGS).num_clips == 4


def test_a_source_goes_on_behind_its_last_long_stage(raw, tmp_path, monkeypatch, no_work_yet):
    curate(raw, tmp_path / "straight", SETTINGS)
    no_work_yet()
    monkeypatch.setattr(worker, "WORTH_KEEPING_S", 0.0)
    monkeypatch.setattr(Journal, "record", stop_behind_transcode_of_robot(Journal.record))
    with pytest.raises(KeyboardInterrupt):
        curate(raw, tmp_path / "out", SETTINGS)
    assert saved_or_too_short() is Exit.SAVED
    monkeypatch.undo()
    seen = []
    transcode = TranscodeStage.process

    def process(self, clip):
        seen.append(clip.name)
        return transcode(self, clip)

    monkeypatch.setattr(TranscodeStage, "process", process)
    summary = curate(raw, tmp_path / "out", SETTINGS)
    assert (summary.num_reused, seen) == (3, [])
    assert tree(tmp_path / "out") == tree(tmp_path / "straight")


def stop_behind_transcode_of_robot(record):
    """A run that is stopped between two stages of its last source."""

    def call(self, source, result, finished=True):
        record(self, source, result, finished)
        if "robot" in source.name and "transcode" in result.counts:
            raise KeyboardInterrupt

    return call


def test_a_source_of_many_clips_goes_on_with_the_next_clip(raw, tmp_path, monkeypatch):
    curate(raw, tmp_path / "straight", SETTINGS)
    monkeypatch.setattr(worker, "KEEP_EVERY_S", 0.0)
    moving, seen = MotionStage.process, []

    def process(self, clip):
        seen.append((clip.name, clip.span_s[0]))
        if clip.span_s[0] > 0 and len(seen) < 3:  # the second shot, the first time
            raise KeyboardInterrupt
        return moving(self, clip)

    monkeypatch.setattr(MotionStage, "process", process)
    with pytest.raises(KeyboardInterrupt):
        curate(raw, tmp_path / "out", SETTINGS)
    curate(raw, tmp_path / "out", SETTINGS)
    assert [start > 0 for name, start in seen if name == "a two shots.mp4"] == [False, True, True]
    assert tree(tmp_path / "out") == tree(tmp_path / "straight")


def test_no_stage_decodes_a_finished_clip_by_itself(raw, tmp_path, monkeypatch):
    settings = replace(SETTINGS, skip=())
    curate(raw, tmp_path / "straight", settings)
    alone = frames.decode
    monkeypatch.setattr(frames, "decode", lambda *_, **__: pytest.fail("decoded again"))
    curate(raw, tmp_path / "shared", settings)
    monkeypatch.setattr(frames, "decode", alone)
    monkeypatch.setattr(frames, "BUDGET_BYTES", 0)
    monkeypatch.setattr(ClipStore, "sharing", lambda *_: contextlib.nullcontext())
    curate(raw, tmp_path / "alone", settings)
    assert tree(tmp_path / "shared") == tree(tmp_path / "alone") == tree(tmp_path / "straight")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": 1}'])
def test_a_damaged_entry_of_the_journal_is_written_anew(raw, tmp_path, content):
    output = tmp_path / "out"
    curate(raw, output, SETTINGS)
    before = tree(output)
    next((output / ".work" / "sources").rglob("*.json")).write_text(content)
    assert curate(raw, output, SETTINGS).num_reused == 3
    assert tree(output) == before


def test_damaged_shards_are_made_again(raw, tmp_path):
    output = tmp_path / "out"
    curate(raw, output, SETTINGS)
    before = tree(output)
    tar = next(output.rglob("video/part_*/*.tar"))
    tar.write_bytes(tar.read_bytes()[:700])
    curate(raw, output, SETTINGS)
    assert tree(output) == before


def test_half_a_line_of_metrics_is_cut_off(raw, tmp_path):
    curate(raw, tmp_path / "out", SETTINGS)
    path = tmp_path / "out" / "metrics.jsonl"
    whole = path.read_text().splitlines()
    path.write_text("\n".join(whole)[:-20])
    curate(raw, tmp_path / "out", SETTINGS)
    lines = path.read_text().splitlines()
    assert lines[: len(whole) - 1] == whole[:-1]
    assert len([json.loads(line) for line in lines]) == 2 * len(whole) - 1


def test_duplicates_are_rejected_whatever_their_name_and_container(raw, tmp_path):
    shutil.copy(raw / "sub" / "robot.mp4", raw / "z copy.mkv")
    summary = curate(raw, tmp_path / "out", SETTINGS)
    assert summary.rejected["duplicate"] == 1
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text()
    assert "z copy.mkv" in rejected and "the same frames as 'sub/robot.mp4'" in rejected
    # A duplicate is not worked on again, and takes the place of the first one when that goes.
    assert curate(raw, tmp_path / "out", SETTINGS).num_reused == 5
    (raw / "sub" / "robot.mp4").unlink()
    summary = curate(raw, tmp_path / "out", SETTINGS)
    assert (summary.num_reused, summary.num_clips) == (4, 3)
    assert "z copy.mkv" in {sample.record.source for sample in read_samples(tmp_path / "out")}


def test_a_stage_that_fails_on_one_clip_does_not_end_the_run(raw, tmp_path, monkeypatch):
    real = WordsStage.process

    def failing(self, clip):
        if "robot" in clip.name:
            raise RuntimeError("out of memory")
        return real(self, clip)

    with monkeypatch.context() as patch:
        patch.setattr(WordsStage, "process", failing)
        summary = curate(raw, tmp_path / "out", SETTINGS)
    assert summary.rejected["stage_failure"] == summary.num_dead == 1
    dead = json.loads((tmp_path / "out" / "dead_letter.jsonl").read_text())
    assert (dead["name"], dead["stage"]) == ("sub/robot.mp4", "words")
    assert curate(raw, tmp_path / "out", SETTINGS).num_reused == 4
    assert "RuntimeError: out of memory" in (tmp_path / "out" / "rejected.jsonl").read_text()
    again = curate(raw, tmp_path / "out", SETTINGS, retry_dead=True)
    assert (again.num_dead, again.num_clips, again.num_reused) == (0, 3, 3)


def test_patterns_lists_and_single_files(raw, tmp_path):
    (raw / "list.txt").write_text("sub/robot.mp4\n\nstill.mp4\n")
    found = {
        source: [clip.name for clip in find_sources(raw / source, tmp_path / "out")]
        for source in ("**/*.mp4", "list.txt", "still.mp4", "*.mp4")
    }
    every = ["a two shots.mp4", "broken.mp4", "still.mp4", "sub/robot.mp4"]
    assert found["**/*.mp4"] == every
    assert found["*.mp4"] == every[:3]
    assert found["list.txt"] == ["still.mp4", "sub/robot.mp4"]
    assert found["still.mp4"] == ["still.mp4"]


def test_an_output_inside_the_input_is_refused(raw):
    with pytest.raises(InputError, match="lies inside"):
        curate(raw, raw / "out", SETTINGS)
    assert not (raw / "out").exists()


def test_stages_must_stand_in_an_order_that_gives_each_its_inputs(store):
    with pytest.raises(ConfigError, match="'words' reads 'suffixes'"):
        check_order([ProbeStage(), WordsStage(store)])


def test_every_stage_says_what_it_sets(store):
    known = set(Clip.__dataclass_fields__)
    for stage in SETTINGS.build_stages(store):
        assert isinstance(stage, Stage)
        assert set(stage.inputs) | set(stage.outputs) <= known


def test_clips_lost_from_the_work_folder_are_made_again(raw, tmp_path):
    output = tmp_path / "out"
    curate(raw, output, SETTINGS)
    before = tree(output)
    shutil.rmtree(output / "v0")
    assert curate(raw, output, SETTINGS).num_reused == 2
    assert tree(output) == before


def test_a_missing_file_of_the_store_is_an_error(store):
    with pytest.raises(MissingFileError, match=r"\.work"):
        store.get("no-such-clip", "mp4")


def test_actions_in_the_shard_are_the_ones_of_the_span(raw, tmp_path):
    settings = replace(SETTINGS, split=SplitSettings(method="stride", stride_s=1.2, min_clip_s=1))
    curate(raw / "sub", tmp_path / "out", settings)
    actions = np.load(raw / "sub" / "robot.action.npy")
    for sample in read_samples(tmp_path / "out"):
        start = round(sample.record.span_s[0] * 10)
        found = np.load(io.BytesIO(sample.read("action.npy")))
        assert np.array_equal(found, actions[start : start + sample.record.num_frames - 1])
