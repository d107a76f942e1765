"""The head's training is reproducible, keeps its false-positive rate, and can be read back."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.guardrails.text import train_classifier
from nemo_cosmos.guardrails.text.kernel_head import read_head
from nemo_cosmos.guardrails.text.prompt_set import prompts_sha256, read_prompts
from nemo_cosmos.guardrails.text.text_classifier import (
    ENGLISH,
    HEAD_FILE,
    MULTILINGUAL,
    TextClassifierGuard,
)


def count(texts: list[str]) -> np.ndarray:
    """Features that a head can learn from: how often three words occur, and the length."""
    rows = [[t.count("stab"), t.count("pills"), t.count("robot"), len(t) / 100] for t in texts]
    return np.array(rows, np.float32)


ENCODERS = {MULTILINGUAL: count, ENGLISH: count}


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(train_classifier, "load_encoders", lambda: ENCODERS)
    lines = []
    for number in range(12):
        lines.append(f"safe\tcity\ta robot passes house {number}\n")
        lines.append(f"violence\tplain\tthey stab man {number}\n")
        lines.append(f"drugs\tplain\tpills for {number} coins\n")
    path = tmp_path / "prompts.tsv"
    path.write_text("".join(lines))
    return path


def test_the_command_writes_a_head_that_judges_and_the_same_one_again(
    prompts, tmp_path, monkeypatch, capsys
):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        monkeypatch.setattr(sys, "argv", ["train", str(prompts), "--out", str(file)])
        train_classifier.main()
    assert files[0].read_bytes() == files[1].read_bytes()
    figures = json.loads(capsys.readouterr().out.splitlines()[0])
    assert [figures[expert]["recall"] for expert in (MULTILINGUAL, ENGLISH)] == [1.0, 1.0]
    assert all(expert["false_positive_rate"] <= 0.01 for expert in figures.values())
    assert read_head(files[0]).categories == ("drugs", "safe", "violence")
    guard = TextClassifierGuard(ENCODERS, files[0])
    assert guard.check("a robot passes the house").allowed
    assert guard.check("they stab a man").category == "violence"


@pytest.mark.parametrize("num_neighbours", [0, 3])
def test_the_score_of_a_left_out_prompt_is_that_of_a_machine_without_it_and_its_neighbours(
    monkeypatch, num_neighbours
):
    monkeypatch.setattr(train_classifier, "NUM_NEIGHBOURS", num_neighbours)
    random = np.random.default_rng(0)
    points = random.normal(size=(12, 3)).astype(np.float32)
    targets = np.where(random.random((12, 2)) > 0.5, 1.0, -1.0)
    _, left_out = train_classifier.fit_expert({"one": points}, targets, 0.5)
    distances = np.linalg.norm(points - points[0], axis=1)
    kept = np.argsort(distances)[1 + num_neighbours :]
    expert, _ = train_classifier.fit_expert({"one": points[kept]}, targets[kept], 0.5)
    assert np.allclose(expert.scores({"one": points[:1]}), left_out[:1], atol=1e-4)


def test_a_threshold_comes_from_the_prompts_that_its_expert_is_asked_about(
    prompts, tmp_path, monkeypatch
):
    """Harmless German that is near to harm raises the threshold for other languages alone."""
    # Prompts that contradict each other have large weights.
    monkeypatch.setattr(train_classifier, "STORED_TOLERANCE", 1.0)
    lines = [f"safe\tde scene\tund nicht stab {number}\n" for number in range(2)]
    lines.append("violence\tde plain\tund die stab stab stab und nicht mehr\n")
    (tmp_path / "german.tsv").write_text("".join(lines))
    one, two = (
        train_classifier.train(files, tmp_path / "head", 0.01, ENCODERS)
        for files in ([prompts], [prompts, tmp_path / "german.tsv"])
    )
    assert two[MULTILINGUAL]["threshold"] > one[MULTILINGUAL]["threshold"]
    assert two[ENGLISH]["threshold"] == one[ENGLISH]["threshold"]


def test_a_head_says_which_prompts_it_was_trained_on(prompts, tmp_path):
    train_classifier.train([prompts], tmp_path / "head", 0.01, ENCODERS)
    digest = prompts_sha256(read_prompts(prompts))
    assert read_head(tmp_path / "head").prompts_sha256 == digest
    folder = Path(__file__).parents[4] / "benchmarks" / "guard_prompts"
    shipped = [p for file in folder.glob("development*.tsv") for p in read_prompts(file)]
    assert read_head(HEAD_FILE).prompts_sha256 == prompts_sha256(shipped), "train the head again"
