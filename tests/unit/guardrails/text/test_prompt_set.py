"""The labelled prompts: their files are sound, and figures are counted as documented."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nemo_cosmos.errors import SampleError
from nemo_cosmos.guardrails.text.keywords import KeywordGuard
from nemo_cosmos.guardrails.text.language import READ
from nemo_cosmos.guardrails.text.prompt_set import (
    LabelledPrompt,
    measure,
    read_prompts,
    wilson_interval,
)

FOLDER = Path(__file__).parents[4] / "benchmarks" / "guard_prompts"
SCENES = {"driving", "robotics", "hospital", "museum", "city", "zoo", "retail"}


def assert_disjoint(development: set[str], held_out: set[str]) -> None:
    """Fail with a count alone: pytest would print the sets, and held-out prompts stay unread."""
    num_shared = len(development & held_out)
    assert num_shared == 0, f"{num_shared} development prompts are held-out prompts, too"


def labels(name: str) -> tuple[int, int]:
    """Return how many harmless and harmful prompts a file has."""
    prompts = read_prompts(FOLDER / f"{name}.tsv")
    num_harmful = sum(prompt.harmful for prompt in prompts)
    return len(prompts) - num_harmful, num_harmful


def test_measure_counts_as_its_names_say():
    prompts = [
        LabelledPrompt("safe", "city", "a"),
        LabelledPrompt("safe", "city", "b"),
        LabelledPrompt("violence", "plain", "c"),
        LabelledPrompt("violence", "plain", "d"),
        LabelledPrompt("violence", "obfuscated", "e"),
    ]
    quality = measure(prompts, lambda prompt: prompt.text in "ad")
    assert quality.to_dict() == {
        "num_prompts": 5,
        "precision": 0.6667,
        "recall": 0.6667,
        "false_positive_rate": 0.5,
        "recall_obfuscated": 1.0,
    }


def test_a_line_with_other_columns_is_an_error(tmp_path):
    (tmp_path / "p.tsv").write_text("# comment\nsafe\tcity\n")
    with pytest.raises(SampleError, match=r"Line 2 .* 2 columns"):
        read_prompts(tmp_path / "p.tsv")


def test_the_two_parts_cover_every_scene_and_category_and_share_no_prompt():
    parts = [read_prompts(FOLDER / f"{name}.tsv") for name in ("development", "heldout")]
    assert sum(map(len, parts)) >= 300
    texts = [{prompt.text.casefold() for prompt in part} for part in parts]
    assert_disjoint(*texts)
    assert {p.label for p in parts[0]} == {p.label for p in parts[1]}
    for part in parts:
        assert {p.kind for p in part if not p.harmful} >= SCENES
        assert sum(p.kind == "obfuscated" for p in part) >= 30


def test_the_blocklist_refuses_no_ordinary_development_prompt_and_sees_through_disguises():
    guard = KeywordGuard()
    prompts = read_prompts(FOLDER / "development.tsv")
    verdicts = {prompt: guard.check(prompt.text) for prompt in prompts}
    assert [v.reason for p, v in verdicts.items() if not p.harmful and not v.allowed] == []
    quality = measure(prompts, lambda prompt: verdicts[prompt].allowed)
    assert quality.recall_obfuscated >= 0.95
    assert quality.recall >= 0.75


def test_the_interval_of_a_share_is_wilsons():
    low, high = wilson_interval(189, 252)
    assert (round(low, 3), round(high, 3)) == (0.693, 0.799)
    assert wilson_interval(0, 500)[0] == 0.0 and wilson_interval(0, 500)[1] < 0.008


def test_the_parts_of_the_benchmark_share_no_prompt():
    """A held-out prompt on which the head was trained would measure nothing."""
    development, held_out = (
        {prompt.text.casefold() for file in FOLDER.glob(glob) for prompt in read_prompts(file)}
        for glob in ("development*.tsv", "heldout*.tsv")
    )
    assert_disjoint(development, held_out)
    assert labels("heldout_evading") == (0, 252)
    assert labels("heldout_benign") == (500, 0)


def test_a_failure_shows_no_held_out_prompt():
    with pytest.raises(AssertionError) as failure:
        assert_disjoint({"a robot waves", "a cup"}, {"a robot waves", "a bowl"})
    assert str(failure.value).startswith("1 development prompts")
    assert "robot" not in str(failure.value) and "bowl" not in str(failure.value)


def test_every_covered_language_has_harmful_and_harmless_prompts_in_both_parts():
    for name, least in (("development_languages", 20), ("heldout_languages", 30)):
        prompts = read_prompts(FOLDER / f"{name}.tsv")
        for code in READ[1:]:
            own = [prompt for prompt in prompts if prompt.kind.split()[0] == code]
            assert sum(prompt.harmful for prompt in own) >= least, code
            assert sum(not prompt.harmful for prompt in own) >= least, code
    assert labels("heldout_evading_second") == (0, 147)
    num_held_out = sum(len(read_prompts(file)) for file in FOLDER.glob("heldout*.tsv"))
    assert num_held_out >= 1000


def test_the_held_out_prompts_are_those_that_were_frozen():
    """A prompt that is corrected once its verdict is known measures nothing."""
    frozen = dict(
        reversed(line.split()) for line in (FOLDER / "heldout.sha256").read_text().splitlines()
    )
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in FOLDER.glob("heldout*.tsv")
    }
    assert found == frozen


def test_the_second_held_out_set_covers_what_the_first_one_does():
    assert labels("heldout2_benign") == (125, 0)
    assert labels("heldout2_evading") == (0, 75)
    languages = read_prompts(FOLDER / "heldout2_languages.tsv")
    for code in READ[1:]:
        assert sum(prompt.kind == f"{code} plain" for prompt in languages) >= 20, code
        assert sum(prompt.kind == f"{code} scene" for prompt in languages) >= 10, code
