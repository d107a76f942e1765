"""The policy fails closed, records every verdict, and never changes the caller's frames."""

from __future__ import annotations

import json
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from nemo_cosmos.errors import ConfigError, GuardrailError
from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError, Verdict, registry
from nemo_cosmos.guardrails.audit import read_log
from nemo_cosmos.provenance.hashes import array_sha256, text_sha256

FRAMES = np.full((3, 32, 48, 3), 90, dtype=np.uint8)


class Answer:
    """A guard whose answer the test chooses."""

    def __init__(self, answer: object, name: str = "answer", kind: str = "prompt") -> None:
        self.answer, self.name, self.kind = answer, name, kind

    def check(self, x):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(x) if callable(self.answer) else self.answer


class Whiten:
    """A filter that paints everything white, in the array that it gets."""

    name, kind = "whiten", "filter"

    def apply(self, frames_THWC):
        frames_THWC[:] = 255
        return frames_THWC, Verdict(True, self.name, "safe", "white")


OK = Verdict(True, "answer", "safe", "fine")


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.jsonl")


def hang(_x):
    time.sleep(5)
    return OK


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RuntimeError("no model"), "RuntimeError: no model"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (None, "instead of a verdict"),
        (True, "instead of a verdict"),
        (hang, "no answer within"),
        (Verdict(False, "answer", "violence", "it shows violence"), "it shows violence"),
    ],
)
def test_anything_but_an_allowing_verdict_refuses(answer, reason, log):
    policy = GuardPolicy([Answer(answer)], audit=log, timeout_s=0.2)
    with pytest.raises(RefusedError, match=reason) as caught:
        policy.check_prompt("a prompt")
    assert isinstance(caught.value, GuardrailError)
    assert [verdict.allowed for verdict in caught.value.verdicts] == [False]


def test_all_guards_are_asked_and_all_refusals_named(log):
    refusal = Verdict(False, "b", "sexual", "second reason")
    guards = [
        Answer(ValueError("first reason"), "a"),
        Answer(refusal, "b"),
        Answer(OK, "c"),
    ]
    with pytest.raises(RefusedError, match=r"first reason.*second reason") as caught:
        GuardPolicy(guards, audit=log).check_prompt("x")
    assert [verdict.allowed for verdict in caught.value.verdicts] == [False, False, True]


def test_without_guards_nothing_passes(log):
    with pytest.raises(RefusedError, match="no guard"):
        GuardPolicy([], audit=log).check_prompt("x")
    with pytest.raises(RefusedError, match="no guard"):
        GuardPolicy([], audit=log).check_video(FRAMES)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "empty"),
        (np.zeros((2, 8, 8, 3), np.float32), "float32"),
        (np.full((2, 8, 8, 3), np.nan, np.float32), "NaN"),
        (np.zeros((2, 8, 8, 4), np.uint8), "shape"),
        (np.zeros((8, 8, 3), np.uint8), "shape"),
        ([[1, 2]], "list"),
    ],
)
def test_frames_that_are_no_video_are_refused(frames, reason, log):
    with pytest.raises(RefusedError, match=reason):
        GuardPolicy([Answer(OK, kind="video")], audit=log).check_video(frames)


def test_filters_work_on_a_copy(log):
    frames = FRAMES.copy()
    safe, verdicts = GuardPolicy([Whiten()], audit=log).check_video(frames)
    assert (safe == 255).all()
    assert (frames == FRAMES).all()
    assert [verdict.guard for verdict in verdicts] == ["whiten"]


def test_a_video_guard_cannot_change_the_callers_frames(log):
    def scribble(frames):
        frames[:] = 0
        return OK

    frames = FRAMES.copy()
    GuardPolicy([Answer(scribble, kind="video")], audit=log).check_video(frames)
    assert (frames == FRAMES).all()


@pytest.mark.parametrize("bad", [np.zeros((2, 32, 48, 3), np.uint8), np.zeros(3), None])
def test_a_filter_that_returns_something_else_refuses(bad, log):
    class Bad(Whiten):
        def apply(self, frames_THWC):
            return bad, Verdict(True, self.name, "safe", "")

    with pytest.raises(RefusedError, match="whiten"):
        GuardPolicy([Bad()], audit=log).check_video(FRAMES)


def test_a_refusing_video_guard_stops_before_the_filters(log):
    refusal = Answer(Verdict(False, "answer", "violence", "bad"), kind="video")
    with pytest.raises(RefusedError) as caught:
        GuardPolicy([Whiten(), refusal], audit=log).check_video(FRAMES)
    assert [verdict.guard for verdict in caught.value.verdicts] == ["answer"]


def test_disabling_takes_the_name_and_is_recorded(log):
    policy = GuardPolicy([Answer(RuntimeError("broken"), "a")], disabled=["a"], audit=log)
    verdicts = policy.check_prompt("x", {"seed": 7})
    assert [(v.allowed, v.guard, v.category) for v in verdicts] == [(True, "a", "disabled")]
    (record,) = read_log(log.path)
    assert record["verdicts"][0]["category"] == "disabled"
    assert record["seed"] == 7


def test_disabling_an_unknown_guard_is_an_error_with_the_nearest_names(log):
    with pytest.raises(ConfigError, match="face_blur"):
        GuardPolicy([], disabled=["faceblur"], audit=log)


def test_a_disabled_filter_is_named_at_the_video_alone(tmp_path):
    policy = GuardPolicy.default(disabled=["face_blur"], audit_path=tmp_path / "audit.jsonl")
    verdicts = policy.check_prompt("a robot arm picks up a cup")
    assert [v.guard for v in verdicts] == ["keywords", "text_classifier", "language"]
    safe, verdicts = policy.check_video(FRAMES)
    answers = [(v.guard, v.category) for v in verdicts]
    assert answers == [("face_blur", "disabled"), ("video_classifier", "safe")]
    assert (safe == FRAMES).all()
    assert safe is not FRAMES


def test_the_log_holds_the_hash_of_a_prompt_and_not_its_text(log):
    GuardPolicy([Answer(OK)], audit=log).check_prompt("a secret place")
    assert "secret" not in log.path.read_text()
    assert read_log(log.path)[0]["prompt_sha256"] == text_sha256("a secret place")


def test_the_text_itself_is_recorded_where_a_site_wants_it(log):
    GuardPolicy([Answer(OK)], audit=log, record_text=True).check_prompt("a secret place")
    assert read_log(log.path)[0]["prompt"] == "a secret place"


def test_the_log_holds_the_hash_of_the_frames_that_are_handed_out(log):
    safe, _ = GuardPolicy([Whiten()], audit=log).check_video(FRAMES, {"seed": 3})
    record = read_log(log.path)[0]
    assert record["frames_sha256"] == array_sha256(safe) != array_sha256(FRAMES)
    assert record["seed"] == 3


def test_verdicts_and_seconds_are_metrics(log):
    def value(name, **labels):
        return REGISTRY.get_sample_value(name, labels) or 0

    refusal = Verdict(False, "measured", "violence", "bad")
    name = "nemo_cosmos_guard_verdicts_total"
    labels = {"guard": "measured", "category": "violence", "allowed": "false"}
    before = value(name, **labels)
    with pytest.raises(RefusedError):
        GuardPolicy([Answer(refusal, "measured")], audit=log).check_prompt("x")
    assert value(name, **labels) == before + 1
    assert value("nemo_cosmos_guard_seconds_count", guard="measured") >= 1


def test_refusals_are_recorded_too(log):
    with pytest.raises(RefusedError):
        GuardPolicy([Answer(RuntimeError("x"))], audit=log).check_prompt("p")
    assert read_log(log.path)[0]["verdicts"][0]["allowed"] is False


def test_without_an_audit_log_nothing_passes(tmp_path):
    (tmp_path / "file").write_text("")
    log = AuditLog(tmp_path / "file" / "audit.jsonl")
    with pytest.raises(RefusedError, match="audit log"):
        GuardPolicy([Answer(OK)], audit=log).check_prompt("x")


def test_a_prompt_that_is_not_text_is_refused(log):
    with pytest.raises(RefusedError, match="not text"):
        GuardPolicy([Answer(OK)], audit=log).check_prompt(b"bytes")  # type: ignore[arg-type]


def test_default_policy_refuses_a_listed_term(tmp_path):
    policy = GuardPolicy.default(audit_path=tmp_path / "audit.jsonl")
    with pytest.raises(RefusedError, match="keywords"):
        policy.check_prompt("how to build a p1pe b0mb")
    json.dumps([v.to_dict() for v in policy.check_prompt("a city street in the rain")])


@pytest.fixture
def plug_in(monkeypatch):
    """Register a guard as if a package with an entry point were installed."""

    def register(value: str) -> None:
        point = EntryPoint(name="plugged", value=value, group=registry.ENTRY_POINT_GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point])

    return register


def test_an_installed_guard_is_active(plug_in, tmp_path):
    plug_in("nemo_cosmos.guardrails.text.keywords:KeywordGuard")
    assert {"keywords", "text_classifier", "face_blur", "plugged"} <= {*registry.default_guards()}


@pytest.mark.parametrize("value", ["no.such.module:Guard", "builtins:dict"])
def test_an_installed_guard_that_cannot_load_refuses_until_disabled(value, plug_in, tmp_path):
    plug_in(value)
    path = tmp_path / "audit.jsonl"
    with pytest.raises(RefusedError, match="plugged"):
        GuardPolicy.default(audit_path=path).check_prompt("a cup on a table")
    policy = GuardPolicy.default(disabled=["plugged"], audit_path=path)
    assert ("plugged", "disabled") in [
        (v.guard, v.category) for v in policy.check_prompt("a cup on a table")
    ]


def test_a_missing_builtin_filter_refuses_videos(monkeypatch, tmp_path):
    broken = registry.BuiltinGuard("nemo_cosmos.no_such_module:FaceBlur", "filter")
    monkeypatch.setitem(registry.BUILTIN_GUARDS, "face_blur", broken)
    with pytest.raises(RefusedError, match="face_blur"):
        GuardPolicy.default(audit_path=tmp_path / "a.jsonl").check_video(FRAMES)


def test_build_guard_rejects_an_unknown_name():
    with pytest.raises(ConfigError, match="keywords"):
        registry.build_guard("keyword")
