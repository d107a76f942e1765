"""TokenBench's preparation against its library, and which published figures are shown."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.evaluation.benchmarks.protocols import PROTOCOLS
from nemo_cosmos.evaluation.benchmarks.published import PUBLISHED, published_for
from nemo_cosmos.evaluation.benchmarks.table import (
    PUBLISHED_KEY,
    published_markdown,
    published_record,
    published_table,
)
from nemo_cosmos.evaluation.pair.psnr import psnr
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.suites import SUITES

TOKENBENCH, DAVIS = PROTOCOLS["tokenbench"], PROTOCOLS["davis"]


@pytest.mark.parametrize(("fps", "kept"), [(10, 300), (24, 300), (29.97, 300), (59.94, 600)])
def test_tokenbench_keeps_ten_seconds_and_at_least_300_frames(fps, kept):
    assert TOKENBENCH.num_frames(fps) == kept
    frames = np.zeros((700, 2, 2, 3), np.uint8)
    assert len(TOKENBENCH.prepare(frames, fps)) == kept
    assert len(TOKENBENCH.prepare(frames[:20], fps)) == 20
    assert len(DAVIS.prepare(frames, fps)) == 700


@pytest.mark.parametrize("size", [(1090, 1201), (1201, 1090), (1080, 1300)])
def test_large_frames_are_resized_as_the_benchmarks_library_does(size):
    media = pytest.importorskip("mediapy")
    frames = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    height, width = size
    short = min(size)
    # The script's own rounding, up to 1080 pixels on the short side.
    if short <= 1080:
        expected = frames
    elif height <= width:
        expected = media.resize_video(frames, (1080, int(width * 1080 / height + 0.5)))
    else:
        expected = media.resize_video(frames, (int(height * 1080 / width + 0.5), 1080))
    assert np.array_equal(TOKENBENCH.prepare(frames, 30), expected)


def test_psnr_is_that_of_the_corrected_script():
    # In bytes the square of 16 is 0; the script that came with the figures counted so.
    truth = np.full((1, 8, 8, 3), 100, np.uint8)
    made = truth + np.uint8(16)
    mse = ((made.astype(np.float32) - truth.astype(np.float32)) ** 2).mean()
    expected = 20 * np.log10(255.0 / (np.sqrt(mse) + np.finfo(np.float32).eps))
    assert psnr(made, truth) == pytest.approx(float(expected), abs=1e-4)
    assert ((made - truth) ** 2).mean() == 0


def test_a_suite_of_a_benchmark_computes_what_it_publishes():
    for name in PROTOCOLS:
        assert {metric.name for metric in choose_metrics(SUITES[name])} >= set(PUBLISHED[0].scores)


@pytest.mark.parametrize(
    ("suite", "benchmarks"),
    [("tokenbench", {"TokenBench"}), ("davis", {"DAVIS"}), ("tokenizer", {"TokenBench", "DAVIS"})],
)
def test_a_benchmark_shows_its_own_figures_alone(suite, benchmarks):
    rows = published_for(False, suite)
    assert {row.benchmark for row in rows} == benchmarks
    assert not any(row.is_discrete for row in rows)


def test_the_table_says_that_the_videos_are_others():
    record = {
        "num_clips": 3,
        "scores": {"psnr": {"value": 30.0}, "ssim": {"value": 0.9}},
        PUBLISHED_KEY: published_record(published_for(True, "tokenbench"), "tokenbench"),
    }
    table = published_table(record)
    own, first, *_ = table["rows"]
    assert own["numbers"] == ["30.000", "0.900", ""] and "3 of this evaluation" in own["videos"]
    assert first["tokenizer"] == "Cosmos-DV4x8x8 (4x8x8)" and first["numbers"][0] == "35.137"
    assert "TokenBench" in first["source"] and "Another data set" in table["note"]
    assert "| Cosmos-DV4x8x8 (4x8x8) | TokenBench | 35.137 | 0.887 | 19.672 |" in "\n".join(
        published_markdown(table)
    )
    assert published_table({"scores": {}}) is None


def test_a_benchmark_without_figures_of_the_kind_shows_none():
    assert published_for(True, "davis") == []
