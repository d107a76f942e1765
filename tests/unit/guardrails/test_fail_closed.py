"""Every way in which a guard may fail is a refusal with its reason, and none of them passes.

Cases: no model, wrong weights, an exception, a time-out, NaN, an empty prompt, an empty video. A
guard goes unasked only when it is named, and that is recorded.
"""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, GuardrailError
from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError
from nemo_cosmos.guardrails.audit import read_log
from nemo_cosmos.guardrails.faces.face_blur import FaceBlur
from nemo_cosmos.guardrails.registry import build_guard, default_guards, guard_names

FRAMES = np.full((3, 48, 64, 3), 90, dtype=np.uint8)
PROMPT = "a robot arm picks up a cup"
#: Where each embedded guard looks for its weights.
PROMPT_PLACES = {"text_classifier": "nemo_cosmos.perception.multilingual"}
VIDEO_PLACES = {
    "video_classifier": "nemo_cosmos.guardrails.video.video_classifier",
    "face_blur": "nemo_cosmos.guardrails.faces.retinaface_mobile",
}


@pytest.fixture
def log(tmp_path):
    return AuditLog(tmp_path / "audit.jsonl")


def ask(guard, log, x=None, **options) -> str:
    """Ask the policy with this one guard; return the reason of its refusal."""
    policy = GuardPolicy([guard], audit=log, **options)
    with pytest.raises(RefusedError) as caught:
        if guard.kind == "prompt":
            policy.check_prompt(PROMPT if x is None else x)
        else:
            policy.check_video(FRAMES if x is None else x)
    assert isinstance(caught.value, GuardrailError)
    (verdict,) = caught.value.verdicts
    assert not verdict.allowed
    assert read_log(log.path)[-1]["verdicts"] == [verdict.to_dict()]
    return verdict.reason


def test_prompts_and_videos_have_guards_by_default():
    assert default_guards()[:5] == [
        "keywords",
        "text_classifier",
        "language",
        "video_classifier",
        "face_blur",
    ]


@pytest.mark.parametrize("name", [*PROMPT_PLACES, *VIDEO_PLACES])
def test_no_model(name, log, monkeypatch):
    def missing(asset):
        raise AssetError(f"there is no {asset}")

    place = {**PROMPT_PLACES, **VIDEO_PLACES}[name]
    monkeypatch.setattr(f"{place}.asset_path", missing)
    assert "there is no" in ask(build_guard(name), log)


@pytest.mark.parametrize("name", ["aegis", "llama_guard", "qwen3guard", "siglip"])
def test_no_model_of_a_guard_that_a_site_enables(name, log, monkeypatch, tmp_path):
    monkeypatch.setenv("NEMO_COSMOS_LLM_GUARD_MODEL", str(tmp_path / "nowhere"))
    monkeypatch.delenv("NEMO_COSMOS_LLM_GUARD_URL", raising=False)
    monkeypatch.delenv("NEMO_COSMOS_VIDEO_SAFETY", raising=False)
    assert ask(build_guard(name), log)


@pytest.mark.parametrize("name", VIDEO_PLACES)
@pytest.mark.parametrize("content", [b"", b"WEIGHTS = b'noise'", b"\x08\x06noise" * 99])
def test_wrong_weights(name, content, log, monkeypatch, tmp_path):
    (tmp_path / "weights").write_bytes(content)
    monkeypatch.setattr(f"{VIDEO_PLACES[name]}.asset_path", lambda asset: tmp_path / "weights")
    assert ask(build_guard(name), log)


def test_weights_of_another_network(log, monkeypatch):
    other = asset_path("yunet_face_detector")
    monkeypatch.setattr("nemo_cosmos.guardrails.video.video_classifier.asset_path", lambda _: other)
    assert ask(build_guard("video_classifier"), log)


def test_a_sentence_encoder_with_other_weights(log, monkeypatch, tmp_path):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(asset_path("minilm_sentence_encoder"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    name = next(n for n in weights if n.endswith("word_embeddings.weight"))
    file.unlink()
    save_file({**weights, name: weights[name] * 1.1}, file, {"format": "pt"})
    monkeypatch.setattr("nemo_cosmos.perception.sentence.asset_path", lambda _: tmp_path / "model")
    assert "not the one that the classifier was trained on" in ask(
        build_guard("text_classifier"), log
    )


@pytest.mark.parametrize("name", guard_names())
@pytest.mark.parametrize("failure", ["exception", "time-out", "no answer"])
def test_an_exception_a_time_out_and_no_answer(name, failure, log, monkeypatch):
    guard = build_guard(name)

    def fail(x):
        if failure == "exception":
            raise ZeroDivisionError("it broke")
        if failure == "time-out":
            time.sleep(0.3)
        return (x, None) if guard.kind == "filter" else None

    method = "apply" if guard.kind == "filter" else "check"
    monkeypatch.setattr(guard, method, fail, raising=False)
    reason = ask(guard, log, timeout_s=0.05 if failure == "time-out" else 5)
    expected = {"exception": "it broke", "time-out": "no answer within 0.05 s"}
    assert expected.get(failure, "") in reason


def test_nan(log):
    nan = float("nan")
    for name in ("video_classifier", "siglip"):
        guard = build_guard(name)
        shape = (len(FRAMES),) if name == "video_classifier" else (len(FRAMES), 7)
        guard._classifier = lambda x, shape=shape: np.full(shape, nan)
        assert "NaN" in ask(guard, log)
    text = build_guard("text_classifier")
    broken = dict.fromkeys(
        ("multilingual", "english"), lambda texts: np.full((len(texts), 1536), nan)
    )
    text._encoders, text._checked = broken, True
    assert "NaN" in ask(text, log)
    assert "NaN" in ask(FaceBlur(), log, np.full((2, 8, 8, 3), nan))


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        *((nothing, "empty") for nothing in ("", " ", "\n\t", "\u200b", "\u0301")),
        ("...", "no words that can be read"),
    ],
)
def test_a_prompt_that_says_nothing(prompt, reason, log):
    assert reason in ask(build_guard("keywords"), log, prompt)
    assert reason in ask(build_guard("text_classifier"), log, prompt)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 0, 8, 3), (2, 8, 0, 3)])
@pytest.mark.parametrize("name", ["video_classifier", "siglip", "face_blur", "watermark"])
def test_an_empty_video(shape, name, log):
    assert "empty" in ask(build_guard(name), log, np.zeros(shape, np.uint8))


@pytest.mark.parametrize("name", guard_names())
def test_a_guard_is_turned_off_only_by_its_name(name, tmp_path):
    log = tmp_path / f"{name}.jsonl"
    policy = GuardPolicy.default(default_guards(), audit_path=log)
    assert policy.guards == []
    policy.check_prompt(PROMPT)
    policy.check_video(FRAMES)
    recorded = [(v["guard"], v["category"]) for r in read_log(log) for v in r["verdicts"]]
    assert sorted(recorded) == sorted((guard, "disabled") for guard in default_guards())
    disabled = GuardPolicy.default([*default_guards(), name], audit_path=log, enabled=[name])
    assert disabled.guards == []
