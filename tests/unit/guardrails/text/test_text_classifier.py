"""The text classifier judges meaning, and refuses whenever it cannot judge."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from nemo_cosmos.errors import AssetError, GuardrailError
from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError
from nemo_cosmos.guardrails.text import text_classifier as module
from nemo_cosmos.guardrails.text.prompt import MAX_CHARACTERS
from nemo_cosmos.guardrails.text.text_classifier import (
    CANARY,
    TextClassifierGuard,
    passages,
    read_head,
)

CATEGORIES = ["drugs", "safe", "violence"]


def encode(texts: list[str]) -> np.ndarray:
    """Counts of three marker words: the weights of the test's head read them off."""
    markers = ("pills", "robot", "stab")
    return np.array([[text.lower().count(m) for m in markers] for text in texts], np.float32)


def write_head(path: Path, **changed) -> Path:
    tensors = {
        "weight": np.eye(3, dtype=np.float32) * 9,
        "bias": np.array([0, 1, 0], np.float32),
        "canary": encode([CANARY])[0],
    }
    described = {"categories": CATEGORIES, "threshold": 0.5}
    for name, value in changed.items():
        (tensors if name in tensors else described)[name] = value
    save_file(tensors, path, metadata={"head": json.dumps(described)})
    return path


@pytest.fixture
def head(tmp_path: Path) -> Path:
    return write_head(tmp_path / "head.safetensors")


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        ("a robot waits", "safe"),
        ("they stab him", "violence"),
        ("pills for sale", "drugs"),
        ("A robot stands in the yard. Then they stab the man. The robot robot robot.", "violence"),
        ("walk " * 90 + "they stab him " + "walk " * 90, "violence"),
    ],
)
def test_the_worst_passage_decides(head, prompt, category):
    verdict = TextClassifierGuard(encode, head).check(prompt)
    assert (verdict.category, verdict.allowed) == (category, category == "safe")


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        ("", "invalid_input"),
        (" \n\u200b", "invalid_input"),
        ("...", "invalid_input"),
        ("a" * (MAX_CHARACTERS + 1), "invalid_input"),
        (np.zeros(3), "invalid_input"),
        (b"bytes", "invalid_input"),
    ],
)
def test_what_is_no_prompt_is_refused(head, prompt, category):
    verdict = TextClassifierGuard(encode, head).check(prompt)
    assert (verdict.allowed, verdict.category) == (False, category)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_refuse(head, bad):
    def broken(texts):
        return encode(texts) if texts == [CANARY] else np.full((len(texts), 3), bad, np.float32)

    verdict = TextClassifierGuard(broken, head).check("a robot")
    assert (verdict.allowed, verdict.category) == (False, "guard_failure")


@pytest.mark.parametrize("shift", [1.0, np.nan])
def test_another_encoder_than_the_trained_one_refuses(head, shift, tmp_path):
    guard = TextClassifierGuard(lambda texts: encode(texts) + shift, head)
    policy = GuardPolicy([guard], audit=AuditLog(tmp_path / "a.jsonl"))
    for _ in range(2):
        with pytest.raises(RefusedError, match="not the one that the classifier was trained on"):
            policy.check_prompt("a robot")


def test_missing_weights_refuse(head, monkeypatch, tmp_path):
    def missing():
        raise AssetError("no network")

    monkeypatch.setattr(module, "load_sentence_encoder", missing)
    policy = GuardPolicy(
        [TextClassifierGuard(head_file=head)], audit=AuditLog(tmp_path / "a.jsonl")
    )
    with pytest.raises(RefusedError, match="no network"):
        policy.check_prompt("a robot")


@pytest.mark.parametrize(
    "changed",
    [
        {"weight": np.eye(2, dtype=np.float32)},
        {"weight": np.full((3, 3), np.nan, np.float32)},
        {"bias": np.zeros(4, np.float32)},
        {"categories": ["drugs", "violence", "crime"]},
        {"threshold": 0.0},
        {"threshold": "none"},
    ],
)
def test_a_damaged_head_is_an_error(tmp_path, changed):
    with pytest.raises(GuardrailError):
        read_head(write_head(tmp_path / "head.safetensors", **changed))


@pytest.mark.parametrize("content", [None, b"", b"not safetensors"])
def test_a_head_that_cannot_be_read_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "head").write_bytes(content)
    with pytest.raises(GuardrailError, match="cannot be read"):
        read_head(tmp_path / "head")


def test_the_shipped_head_fits_the_encoder():
    head = read_head(module.HEAD_FILE)
    assert "safe" in head.categories and len(head.categories) == 10
    uniform = head.probabilities(np.zeros((2, head.weight_CD.shape[1]), np.float32))
    assert np.allclose(uniform.sum(axis=1), 1)


def test_a_single_sentence_is_judged_once():
    assert passages("A robot  picks up a cup.") == ["A robot  picks up a cup."]
    assert passages("A robot waits there. It picks up a cup!")[1:] == [
        "A robot waits there",
        "It picks up a cup",
    ]


def test_every_word_of_a_long_prompt_is_in_some_passage():
    words = [f"w{number}" for number in range(137)]
    windows = passages(" ".join(words))[1:]
    assert {word for window in windows for word in window.split()} == {*words}
    assert max(len(window.split()) for window in windows) <= module.WINDOW_WORDS


def test_any_text_gets_a_verdict(head):
    guard = TextClassifierGuard(encode, head)

    @given(st.text(max_size=300))
    @settings(max_examples=150, deadline=None)
    def judge(text):
        assert isinstance(guard.check(text).allowed, bool)

    judge()


@pytest.fixture(scope="module")
def shipped() -> TextClassifierGuard:
    """The guard as it ships; skipped where its package is unavailable."""
    from nemo_cosmos.assets import asset_path

    try:
        asset_path("minilm_sentence_encoder")
    except AssetError as error:
        pytest.skip(str(error))
    return TextClassifierGuard()


@pytest.mark.parametrize(
    ("prompt", "allowed"),
    [
        ("a robot arm picks up a red block and puts it into the bowl", True),
        ("kill the engine", True),
        ("shoot a video of a street market", True),
        ("colour bleeding, flickering, low quality", True),
        ("they slaughter the villagers with machetes, blood everywhere", False),
        ("explicit sex of two nude adults", False),
    ],
)
def test_the_shipped_guard_tells_harm_from_ordinary_work(shipped, prompt, allowed):
    verdict = shipped.check(prompt)
    assert verdict.allowed is allowed, verdict
    assert verdict.category != "guard_failure"


def test_the_shipped_encoder_matches_the_library_that_made_it(shipped):
    """The last layer's part is the mean of token states, as the model card of MiniLM defines it."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from nemo_cosmos.assets import asset_path

    folder = asset_path("minilm_sentence_encoder")
    text = "A drone circles a lighthouse."
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        mean = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state[0].mean(0)
    expected = torch.nn.functional.normalize(mean, dim=0).numpy()
    assert np.abs(shipped._load()([text])[0, -384:] - expected).max() < 1e-5
