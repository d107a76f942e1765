"""Decoded clips: covering a size, kept in memory and on disk within limits."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.data.loading import clip_cache
from nemo_cosmos.data.loading.clip_cache import ClipCache
from nemo_cosmos.data.shards.writer import CuratedWriter, read_samples
from nemo_cosmos.errors import SampleError


@pytest.fixture
def count_decodes(monkeypatch):
    calls = []
    real = clip_cache.decode

    def counting(*args, **kwargs):
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(clip_cache, "decode", counting)
    return calls


def test_clip_just_covers_the_size(curated):
    sample = read_samples(curated)[0]
    cache = ClipCache(10**9)
    assert cache.get(sample, (32, 32)).shape == (25, 32, 48, 3)
    assert cache.get(sample, (64, 96)).shape == (25, 64, 96, 3)
    assert cache.get(sample, (16, 96)).shape == (25, 64, 96, 3)


def test_memory_limit_drops_the_least_recently_used(curated, count_decodes):
    sample = read_samples(curated)[0]
    sizes = [(32, 48), (30, 45), (28, 42)]
    cache = ClipCache(2 * 25 * 32 * 48 * 3)
    for size in (*sizes, sizes[2], sizes[1]):
        cache.get(sample, size)
    assert len(count_decodes) == 3
    cache.get(sample, sizes[0])
    assert len(count_decodes) == 4


def test_clip_larger_than_the_limit_is_not_kept(curated, count_decodes):
    sample = read_samples(curated)[0]
    cache = ClipCache(10)
    for _ in range(2):
        assert cache.get(sample, (32, 48)).shape == (25, 32, 48, 3)
    assert len(count_decodes) == 2


def test_disk_serves_later_runs(curated, tmp_path, count_decodes):
    sample = read_samples(curated)[0]
    first = ClipCache(10**9, tmp_path / "cache").get(sample, (32, 48))
    second = ClipCache(10**9, tmp_path / "cache").get(sample, (32, 48))
    np.testing.assert_array_equal(first, second)
    assert len(count_decodes) == 1


def test_damaged_clip_is_named(tmp_path, make_record, mp4):
    with CuratedWriter(tmp_path) as writer:
        writer.add(make_record("broken"), {"mp4": mp4[:-400]})
    with pytest.raises(SampleError, match="mp4 of sample 'broken'"):
        ClipCache(10**9).get(read_samples(tmp_path)[0], (32, 48))


def test_other_length_than_the_json_says(tmp_path, make_record, mp4):
    with CuratedWriter(tmp_path) as writer:
        writer.add(make_record("short", num_frames=20), {"mp4": mp4})
    with pytest.raises(SampleError, match="25 frames, but its JSON says 20"):
        ClipCache(10**9).get(read_samples(tmp_path)[0], (32, 48))
