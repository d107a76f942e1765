"""Intervals that cover the truth as often as they say, and differences that are paired."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from nemo_cosmos.errors import InputError
from nemo_cosmos.evaluation.statistics import (
    Score,
    mean_score,
    paired_difference,
    statistic_score,
)


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(3).normal(2.0, 1.5, 60)
    ours = mean_score(values, num_resamples=20_000)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    scores = [mean_score(generator.exponential(1.0, 80), num_resamples=400) for _ in range(400)]
    covered = np.mean([score.covers(1.0) for score in scores])
    assert 0.90 <= covered <= 0.98  # the bootstrap of a skewed sample covers a little less


def test_the_same_seed_gives_the_same_interval_in_blocks_of_any_size(monkeypatch):
    values = np.arange(50.0)
    first = mean_score(values, seed=7)
    assert mean_score(values, seed=7) == first != mean_score(values, seed=8)
    monkeypatch.setattr("nemo_cosmos.evaluation.statistics._MAX_DRAWS", 1000)
    assert mean_score(values, seed=7) == first


def test_one_video_has_no_interval_and_none_is_an_error():
    assert mean_score([2.0]) == Score(2.0, None, None, 1)
    assert not mean_score([2.0]).is_above_zero and mean_score([2.0]).covers(2.0)
    with pytest.raises(InputError, match="at least one value"):
        mean_score([])


def test_a_pair_shows_a_difference_that_two_means_hide():
    generator = np.random.default_rng(0)
    hardness = generator.normal(20, 5, 40)
    first, second = hardness + 0.3, hardness + generator.normal(0, 0.1, 40)
    assert paired_difference(first, second).is_above_zero
    assert mean_score(first).covers(mean_score(second).value)
    with pytest.raises(InputError, match="same videos"):
        paired_difference([1.0], [1.0, 2.0])


def test_any_statistic_of_a_set_has_an_interval_and_undefined_resamples_do_not_count():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    score = statistic_score(lambda rows: float(np.median(values[rows])), 5)
    assert score.value == 3.0 and score.low < 3.0 < score.high
    # How many videos differ: all five here, fewer in most resampled sets.
    variety = statistic_score(lambda rows: float(len(set(rows))), 5, grows_with_variety=True)
    assert variety.low < variety.value == 5 < variety.high
    assert statistic_score(lambda rows: float(len(set(rows))), 5).high <= 5
    undefined = statistic_score(lambda rows: np.nan if len(set(rows)) < 5 else 1.0, 5)
    assert (undefined.value, undefined.low, undefined.high) == (1.0, 1.0, 1.0)
    assert statistic_score(lambda rows: 1.0, 1).low is None
