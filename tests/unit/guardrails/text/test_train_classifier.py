"""The head's training is reproducible, keeps its false-positive rate, and can be read back."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.guardrails.text import train_classifier
from nemo_cosmos.guardrails.text.kernel_head import read_head
from nemo_cosmos.guardrails.text.text_classifier import ENGLISH, MULTILINGUAL, TextClassifierGuard


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


def test_the_score_of_a_left_out_prompt_is_that_of_a_machine_without_it():
    random = np.random.default_rng(0)
    support = {"one": random.normal(size=(12, 3)).astype(np.float32)}
    targets = np.where(random.random((12, 2)) > 0.5, 1.0, -1.0)
    _, left_out = train_classifier.fit_expert(support, targets, 0.5)
    others = {"one": support["one"][1:]}
    expert, _ = train_classifier.fit_expert(others, targets[1:], 0.5)
    assert np.allclose(expert.scores({"one": support["one"][:1]}), left_out[:1], atol=1e-4)
