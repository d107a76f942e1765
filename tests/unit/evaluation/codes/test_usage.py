"""Code usage and perplexity against their definitions, over single videos and over all."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, InputError
from nemo_cosmos.evaluation import Case, choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.codes.counts import CodeCounts, add_counts
from nemo_cosmos.evaluation.codes.usage import code_perplexity, code_usage
from nemo_cosmos.evaluation.sharing.journal import ScoreJournal

FRAMES = np.zeros((2, 8, 8, 3), np.uint8)


def test_they_equal_their_definitions():
    indices = np.random.default_rng(0).integers(0, 50, (3, 4, 5)) ** 2 // 50
    counts = CodeCounts.of(indices, codebook_size=64)
    shares = np.bincount(indices.ravel(), minlength=64) / indices.size
    entropy = -sum(share * np.log(share) for share in shares if share)
    assert code_usage(counts) == pytest.approx((shares > 0).mean())
    assert code_perplexity(counts) == pytest.approx(np.exp(entropy), rel=1e-12)


def test_their_ends():
    even, one = np.arange(64), np.full(10, 7)
    assert code_perplexity(CodeCounts.of(even, 64)) == pytest.approx(64)
    assert code_usage(CodeCounts.of(even, 64)) == 1
    assert code_perplexity(CodeCounts.of(one, 64)) == 1
    assert code_usage(CodeCounts.of(one, 64)) == 1 / 64


def test_counts_of_videos_add_up_to_those_of_all():
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 30, size) for size in (5, 40, 3)]
    total = add_counts([CodeCounts.of(part, 32) for part in parts])
    whole = CodeCounts.of(np.concatenate(parts), 32)
    assert np.array_equal(total.codes_U, whole.codes_U)
    assert np.array_equal(total.counts_U, whole.counts_U)


def test_a_set_counts_the_codes_of_all_videos_together():
    metrics = choose_metrics(["code_usage", "code_perplexity"])
    cases = [
        Case(str(code), FRAMES, FRAMES, codes=CodeCounts.of(np.full(4, code), 8))
        for code in range(4)
    ]
    scores = evaluate_cases(cases, metrics).scores
    assert scores["code_usage"].value == 0.5 and scores["code_perplexity"].value == pytest.approx(4)
    # A resampled set lacks some videos and their codes, which does not move the interval.
    usage = scores["code_usage"]
    assert usage.low < 0.5 < usage.high and usage.num == 4


def test_a_video_without_codes_is_an_error():
    with pytest.raises(ConfigError, match="--tokenizer"):
        evaluate_cases([Case("a", FRAMES, FRAMES)], choose_metrics(["code_usage"]))


@pytest.mark.parametrize("indices", [np.array([0, 8]), np.array([-1]), np.zeros(0, int)])
def test_codes_of_another_codebook_are_an_error(indices):
    with pytest.raises(InputError, match="from 0 to 7"):
        CodeCounts.of(indices, 8)


def test_codebooks_of_different_sizes_are_an_error():
    with pytest.raises(InputError, match=r"\[8, 16\]"):
        add_counts([CodeCounts.of(np.arange(3), size) for size in (8, 16)])


def test_kept_scores_hold_the_codes(tmp_path):
    metrics = choose_metrics(["code_usage"])
    journal = ScoreJournal(tmp_path, metrics)
    case = Case("a", FRAMES, FRAMES, codes=CodeCounts.of(np.array([3, 3, 5]), 8))
    result = evaluate_cases([case], metrics).clips["a"]
    journal.record(["a"], result)
    found = journal.find(["a"])
    assert found.codes.codes_U.tolist() == [3, 5] and found.codes.counts_U.tolist() == [2, 1]
    assert found.codes.codebook_size == 8
