"""Recordings in one file, and damage between shots, with each way to split."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_curation.pipeline import curate
from data_curation.settings import CurateSettings
from data_curation.shots.survey import _out_of_order
from data_curation.stages.motion import MotionSettings
from data_curation.stages.split import SplitSettings
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.testing.odd_videos import all_rows
from nemo_cosmos.testing.odd_videos.pictures import number_of
from nemo_cosmos.testing.odd_videos.streams import joined
from nemo_cosmos.testing.pictures import INTERLACED, scenery, woven, write_video
from nemo_cosmos.video import decode, index_frames

METHODS = ("shot", "stride", "none", "transnetv2")


@pytest.fixture
def run(tmp_path):
    def run(path: Path, method: str):
        settings = CurateSettings(
            split=SplitSettings(method=method, min_clip_s=0.2, boundary_s=0),
            motion=MotionSettings(0, 0),
            skip=("camera", "visual_quality", "text_overlay", "embed", "video_type"),
        )
        summary = curate(path, tmp_path / "out", settings)
        samples = sorted(read_samples(tmp_path / "out"), key=lambda each: each.record.span_s)
        assert summary.sources_s == pytest.approx(
            summary.clips_s + summary.left_out_s + sum(summary.rejected_s.values()), abs=0.002
        )
        return summary, samples

    return run


@pytest.mark.parametrize("method", METHODS)
def test_recordings_of_two_sizes_keep_their_own(tmp_path, run, method):
    path = tmp_path / "two sizes.ts"
    joined(path, [{"numbers": range(24)}, {"numbers": range(24, 40), "size": (96, 128)}])
    summary, samples = run(path, method)
    sizes = [(each.record.height, each.record.width) for each in samples]
    assert (sizes[0], sizes[-1]) == ((64, 96), (96, 128))
    shown = [number_of(frame) for each in samples for frame in decode(each.read("mp4")).frames_THWC]
    assert shown == list(range(40))
    assert summary.rejected == {}


@pytest.mark.parametrize("method", METHODS)
def test_what_stands_before_and_after_damage_is_kept(tmp_path, run, method):
    (row,) = [row for row in all_rows() if row.name == "lost packet.ts"]
    path = tmp_path / row.name
    row.write(path)
    summary, samples = run(path, method)
    shown = [number_of(frame) for each in samples for frame in decode(each.read("mp4")).frames_THWC]
    assert shown == list(row.numbers)
    assert summary.rejected_s == pytest.approx(row.lost_s, abs=0.002)


def test_interlaced_frames_beside_damage_are_kept(tmp_path, run):
    path = write_video(tmp_path / "field.ts", woven(scenery(96)), **INTERLACED[True])
    content = path.read_bytes()
    places = [at for at in range(0, len(content), 188) if content[at + 1] & 0x5F == 0x41]
    lost = places[24] + 188  # in the third of four groups of twelve
    path.write_bytes(content[:lost] + content[lost + 188 :])
    assert index_frames(path, find_fields=True).info.scan == "top_first"
    summary, _ = run(path, "none")
    assert summary.rejected == {"damaged": 1}
    assert summary.clips_s >= 1.4


def test_a_repeated_start_is_a_join_and_not_a_mixture(tmp_path):
    path = tmp_path / "same.ts"
    joined(path, [{"numbers": range(8)}, {"numbers": range(8, 16)}])
    index = index_frames(path)
    assert index.joins == [8]
    assert [number_of(frame) for frame in decode(path).frames_THWC] == list(range(16))


def test_frames_of_damaged_times_are_those_that_break_the_order():
    assert _out_of_order([0, 1, 2, 40, 3, 4, 5]) == [40]
    assert _out_of_order([5, 6, 7, 0, 8, 9]) == [0]
    assert _out_of_order([]) == _out_of_order(list(range(9))) == []
