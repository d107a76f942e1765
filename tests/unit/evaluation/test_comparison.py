"""Two evaluations compared video by video, and scores that must come out again."""

from __future__ import annotations

import dataclasses

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.comparison import (
    NO_DIFFERENCE,
    check_repetition,
    compare,
    differences_table,
)
from nemo_cosmos.evaluation.record import EvaluationRecord
from nemo_cosmos.evaluation.statistics import Score, mean_score

HIGHER = {"unit": "dB", "higher_is_better": True, "features": None}


def record(place: str, *, metrics=None, **numbers: list[float]) -> EvaluationRecord:
    """A record of videos v0, v1, ... with these numbers of each metric."""
    count = max(len(values) for values in numbers.values())
    clips = {f"v{n}": {m: values[n] for m, values in numbers.items()} for n in range(count)}
    scores = {name: mean_score(values) for name, values in numbers.items()}
    return EvaluationRecord(place, metrics or dict.fromkeys(numbers, HIGHER), scores, clips, {})


def test_better_worse_and_no_difference_shown():
    first = record("a", psnr=[20.0, 25.0, 30.0, 21.0, 27.0], ssim=[0.5, 0.6, 0.7, 0.5, 0.6])
    second = record("b", psnr=[20.5, 25.4, 30.6, 21.5, 27.5], ssim=[0.6, 0.5, 0.7, 0.4, 0.7])
    psnr, ssim = compare(first, second)
    assert psnr.difference.value == pytest.approx(0.5) and psnr.verdict == "the second is better"
    assert ssim.verdict == NO_DIFFERENCE
    lower = {"unit": "", "higher_is_better": False, "features": None}
    (lpips,) = compare(
        record("a", metrics={"l": lower}, l=[0.1, 0.2, 0.3]),
        record("b", metrics={"l": lower}, l=[0.2, 0.3, 0.5]),
    )
    assert lpips.verdict == "the first is better"
    assert [column.header for column in differences_table([psnr]).columns][3] == "second - first"


def test_only_shared_videos_are_paired_and_one_shows_nothing():
    first, second = record("a", psnr=[20.0, 25.0]), record("b", psnr=[30.0])
    (found,) = compare(first, second)
    assert found.difference.value == 10 and NO_DIFFERENCE in found.verdict


def test_a_number_of_a_whole_set_has_no_pairs():
    whole = dataclasses.replace(record("a", psnr=[1.0, 2.0]), clips={"v0": {}, "v1": {}})
    (found,) = compare(whole, whole)
    assert found.difference is None and "whole set" in found.verdict


def test_two_truths_are_no_pair():
    def of(place, truth, kind="folders"):
        hashes = {"v0": ["aa", truth]} if kind == "folders" else {"v0": truth}
        inputs = {"truth": "somewhere" if kind == "folders" else None, "sha256": hashes}
        return dataclasses.replace(record(place, psnr=[1.0, 2.0]), inputs=inputs)

    assert compare(of("a", "t"), of("b", "t"))
    assert compare(of("a", "t"), record("b", psnr=[1.0, 2.0]))
    for kind in ("folders", "tokenizer"):
        with pytest.raises(ConfigError, match="'v0' was compared with one true video in 'a'"):
            compare(of("a", "t", kind), of("b", "u", kind))


def test_what_cannot_be_compared():
    base = record("a", psnr=[1.0, 2.0])
    with pytest.raises(ConfigError, match="share no metric: psnr against ssim"):
        compare(base, record("b", ssim=[1.0, 2.0]))
    with pytest.raises(ConfigError, match="share no video"):
        compare(base, dataclasses.replace(base, clips={"other": {"psnr": 1.0}}))
    other = {"psnr": {**HIGHER, "features": {"name": "vgg", "version": "2"}}}
    with pytest.raises(ConfigError, match="different features"):
        compare(base, record("b", metrics=other, psnr=[1.0, 2.0]))
    with pytest.raises(ConfigError, match="cannot be repeated"):
        check_repetition(base, record("b", metrics=other, psnr=[1.0, 2.0]))


def test_the_same_number_comes_out_also_where_it_lies_outside_its_own_interval():
    scores = {"fvd": Score(10.0, 12.0, 18.0, 9)}
    before = dataclasses.replace(record("a", fvd=[1.0]), scores=scores)
    (found,) = check_repetition(before, before)
    assert found.is_equal and found.comes_out


def test_a_score_comes_out_the_same_within_or_outside():
    before = record("a", psnr=[20.0, 22.0, 24.0])
    same, within, outside = (
        check_repetition(before, record("b", psnr=values))[0]
        for values in ([20.0, 22.0, 24.0], [20.5, 22.0, 24.0], [30.0, 22.0, 24.0])
    )
    assert same.is_equal and same.comes_out
    assert within.comes_out and not within.is_equal
    assert not outside.comes_out and outside.to_json()["comes_out"] is False
