"""The pages of a run: what they hold, that they stand alone, and that names cannot break them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from data_curation import CurateSettings
from data_curation.clip import Clip, Rejection
from data_curation.reporting.report import MAX_OF_A_REASON, histogram, write_report
from data_curation.reporting.timings import write_timings


def clip(name: str = "a.mp4", start_s: float = 0.0, **changes) -> Clip:
    values = {"caption": "a red block", "caption_source": "sidecar", "scores": {"blur": 0.5}}
    values |= {"extra": {"camera_motion": ["zoom_in", "pan_left"], "video_type": "unknown"}}
    return Clip(
        source=Path(name), name=name, span_s=(start_s, start_s + 2), clip_id=f"{name}-{start_s}",
        fps=10.0, num_frames=20, width=96, height=64, **{**values, **changes},
    )  # fmt: skip


@pytest.fixture
def page(tmp_path, store):
    def page(clips, rejections) -> str:
        summary = {
            "num_sources": len({item.name for item in [*clips, *rejections]}),
            "num_clips": len(clips), "clips_s": 2.0 * len(clips), "sources_s": 9.0,
            "left_out_s": 0.5, "num_dead": 0, "rejected": {},
            "stages": {"probe": (4, 3), "split": (3, 2)}, "settings": asdict(CurateSettings()),
        }  # fmt: skip
        write_report(tmp_path / "report.html", summary, clips, rejections, store)
        return (tmp_path / "report.html").read_text()

    return page


def test_counts_charts_labels_settings_and_lineage(page, store, scene):
    store.put_thumbnail("a.mp4-0.0", scene(1, 1)[0])
    late = Rejection("a.mp4", "split", "too_short", "0.5 s, at least 2 s wanted", (2.0, 2.5), "x")
    html = page([clip(), clip("b.mp4", scores={"blur": float("nan")})], [late])
    assert html.count('<img src="data:image/jpeg;base64,') == 1 and html.count("no picture") == 2
    for words in ("a red block (sidecar)", "zoom_in", "96x64", "1 too_short", "min_clip_s", "blur"):
        assert words in html
    assert "<i>unknown</i>" not in html  # no news
    (kept, lost) = re.findall(r'left: ([\d.]+)%; width: ([\d.]+)%" title="[^"]*"', html)[:2]
    assert (kept, lost) == (("0.00", "80.00"), ("80.00", "20.00"))
    assert "a.mp4-0.0" in html and "2.00 s to 2.50 s too_short: 0.5 s" in html


def test_every_reason_is_seen_however_frequent_another_is(page):
    many = [Rejection(f"{n:03d}.mp4", "motion", "motion", "still") for n in range(200)]
    html = page([], [*many, Rejection("z.mp4", "probe", "encrypted", "Decrypt it first.")])
    assert "Decrypt it first." in html
    assert html.index(">encrypted<") < html.index(">motion<")
    assert f"{MAX_OF_A_REASON} shown" in html and "Every clip was rejected" in html


def test_nothing_is_fetched_and_names_cannot_smuggle_anything_in(page):
    html = page([clip('"><script>alert(1)</script>.mp4')], [])
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "default-src 'none'" in html
    assert not re.search(r"https?://|url\(|@import|<link", html)


def test_light_and_dark(page):
    html = page([clip()], [])
    assert "prefers-color-scheme: dark" in html and "width=device-width" in html


def test_the_page_does_not_depend_on_when_it_is_written(page):
    assert page([clip()], []) == page([clip()], [])


def test_histograms_say_where_they_begin_and_end():
    assert histogram([]) == []
    assert [(bar.label, bar.count) for bar in histogram([3.0, 1.0, 3.0])] == [("1", 1), ("3", 2)]
    bars = histogram(list(np.linspace(0, 10, 101)))
    assert (bars[0].label, bars[1].label, bars[-1].label) == ("0", "", "10")
    assert sum(bar.count for bar in bars) == 101 and max(bar.percent for bar in bars) == 100


def test_timings_are_of_the_latest_work_on_each_source(tmp_path):
    lines = [
        {"event": "source", "source": "slow.mp4", "source_s": 9, "reused": False,
         "stage_s": {"split": 50.0}, "stage_cpu_s": {"split": 50.0}},
        {"event": "source", "source": "slow.mp4", "source_s": 9, "reused": False,
         "stage_s": {"split": 1.0, "embed": 6.0}, "stage_cpu_s": {"split": 1.0, "embed": 3.0}},
        {"event": "source", "source": "quick.mp4", "source_s": 3, "reused": False,
         "stage_s": {"split": 1.0}, "stage_cpu_s": {"split": 1.0}},
        {"event": "source", "source": "quick.mp4", "source_s": 3, "reused": True,
         "stage_s": {}, "stage_cpu_s": {}},
        {"event": "run", "stages": {
            "split": {}, "compare": {"video_s": 12.0, "wall_s": 8.0, "core_s": 4.0}}},
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_timings(tmp_path / "timings.html", tmp_path / "metrics.jsonl")
    html = (tmp_path / "timings.html").read_text()
    assert "2 sources (12.0 s of video)" in html
    assert re.search(r"embed</td><td>6.00</td><td>3.00</td>.*?38 %.*?3.0", html, re.DOTALL)
    assert re.search(r"compare</td><td>8.00</td><td>4.00</td>.*?50 %.*?3.0", html, re.DOTALL)
    assert html.index("slow.mp4") < html.index("quick.mp4")
