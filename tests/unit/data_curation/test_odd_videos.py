"""Each odd video shows its pictures for their time, is read as by FFmpeg, and is accounted for."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from data_curation.pipeline import curate
from data_curation.settings import CurateSettings
from data_curation.shots.survey import survey
from data_curation.stages.motion import MotionSettings
from data_curation.stages.split import SplitSettings
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.testing.odd_videos import all_rows, as_markdown
from nemo_cosmos.testing.odd_videos.pictures import colour_error, number_of
from nemo_cosmos.video import decode, index_frames
from nemo_cosmos.video.source import open_video

ROWS = all_rows()
ids = [row.name for row in ROWS]
DOCS = Path(__file__).parents[3] / "docs" / "curation.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All of them."""
    folder = tmp_path_factory.mktemp("odd")
    for row in ROWS:
        row.write(folder / row.name)
    return folder


@pytest.mark.parametrize("row", [row for row in ROWS if not row.rejected], ids=lambda row: row.name)
def test_frames_seconds_and_picture(folder, row):
    path = folder / row.name
    index = index_frames(path)
    seen = survey(path, index)
    usable = np.flatnonzero(~seen.damaged_T)
    frames_THWC = decode(path, frame_indices=usable, index=index).frames_THWC
    assert frames_THWC.shape[1:3] == row.size
    assert [number_of(frame) for frame in frames_THWC] == list(row.numbers)
    assert index.info.declared_s == pytest.approx(row.seconds, abs=0.003)
    if row.colour_levels:
        assert colour_error(frames_THWC[0]) <= row.colour_levels
    # Any one frame alone is the same as on the way through all of them.
    middle = len(usable) // 2
    alone = decode(path, frame_indices=[usable[middle]], index=index).frames_THWC[0]
    np.testing.assert_array_equal(alone, frames_THWC[middle])


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.as_ffmpeg and not row.rejected], ids=lambda row: row.name
)
def test_ffmpeg_shows_the_same_frames_at_the_same_times(folder, row):
    path = folder / row.name
    with open_video(path) as (container, stream):
        shown = [(frame.pts, frame.time_base) for frame in container.decode(stream)]
    assert len(shown) == index_frames(path).info.num_frames == len(row.numbers)
    if all(pts is not None for pts, _ in shown) and "avi" not in path.suffix:
        times_s = np.array([float(pts * base) for pts, base in shown])
        ours_s = index_frames(path).pts_s
        np.testing.assert_allclose(ours_s, times_s - times_s[0], atol=0.002)


@pytest.fixture(scope="module")
def curated(folder, tmp_path_factory):
    """One run over all of them that keeps every clip, however short."""
    output = tmp_path_factory.mktemp("curated")
    settings = CurateSettings(
        split=SplitSettings(min_clip_s=0.0, max_clip_s=1e6, boundary_s=0.0),
        motion=MotionSettings(0, 0),
        skip=("camera", "visual_quality", "text_overlay", "embed", "video_type"),
    )
    summary = curate(folder, output, settings)
    kept, lost = defaultdict(list), defaultdict(list)
    for sample in read_samples(output):
        kept[sample.record.source].append(sample)
    for line in (output / "rejected.jsonl").read_text().splitlines():
        lost[json.loads(line)["name"]].append(json.loads(line))
    return summary, kept, lost


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_second_is_kept_or_has_a_reason(curated, row):
    _, kept, lost = curated
    seconds = defaultdict(float)
    for item in lost[row.name]:
        seconds[item["reason"]] += item["span_s"][1] - item["span_s"][0]
    kept_s = sum(np.diff(sample.record.span_s)[0] for sample in kept[row.name])
    # They show the same pictures, some of them to the last bit.
    kept_s += seconds.pop("duplicate", 0.0)
    assert dict(seconds) == pytest.approx(dict(row.lost_s), abs=0.003)
    assert kept_s + sum(seconds.values()) == pytest.approx(row.seconds, abs=0.003)


def test_the_sums_of_the_run_add_up(curated):
    summary, _, _ = curated
    parts_s = summary.clips_s + summary.left_out_s + sum(summary.rejected_s.values())
    assert parts_s == pytest.approx(summary.sources_s, abs=0.01)
    assert summary.num_sources == len(ROWS)


def test_the_documentation_has_this_table():
    assert len(ROWS) >= 60
    assert as_markdown() in DOCS.read_text()
