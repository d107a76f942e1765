"""The embedded video classifier, and which frames of a video a guard is given."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nemo_cosmos.errors import AssetError
from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError
from nemo_cosmos.guardrails.base import frames_to_judge
from nemo_cosmos.guardrails.video.video_classifier import OpenNsfw, VideoClassifierGuard, _prepare

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)


def test_the_network_calls_real_pictures_safe_and_batches_do_not_matter():
    data = pytest.importorskip("skimage.data")
    classifier = OpenNsfw()
    pictures = np.stack([data.astronaut()] * 9 + [data.astronaut()[::-1]])
    harm = classifier(pictures)
    assert harm.shape == (10,)
    assert harm[0] == pytest.approx(harm[8], abs=1e-6)
    assert harm[9] == pytest.approx(classifier(pictures[9:])[0], abs=1e-6)
    assert (harm < 0.2).all()


def test_a_frame_is_prepared_as_yahoo_did():
    frame = np.zeros((224, 300, 3), np.uint8)
    frame[..., 2] = 250
    prepared = _prepare(frame)
    assert prepared.shape == (224, 224, 3)
    assert prepared[5, 5] == pytest.approx([250 - 104, -117, -123], abs=3)
    with io.BytesIO() as buffer:
        Image.fromarray(FRAMES[0]).save(buffer, format="PNG")
    assert _prepare(FRAMES[0]).dtype == np.float32


@pytest.mark.parametrize(
    ("harm", "allowed", "category"),
    [
        ([0.1, 0.2, 0.3], True, "safe"),
        ([0.1, 0.95, 0.3], False, "sexual"),
        ([0.1, np.nan, 0.3], False, "guard_failure"),
        ([0.1, 0.2], False, "guard_failure"),
    ],
)
def test_the_worst_frame_counts(harm, allowed, category):
    verdict = VideoClassifierGuard(lambda x: np.array(harm)).check(FRAMES)
    assert (verdict.allowed, verdict.category) == (allowed, category)


@pytest.mark.parametrize("x", ["text", FRAMES[:0], FRAMES.astype(float), FRAMES[0]])
def test_what_is_no_video_is_refused(x):
    assert VideoClassifierGuard(lambda x: np.zeros(len(x))).check(x).category == "invalid_input"


def test_missing_weights_refuse(monkeypatch, tmp_path):
    def missing(name):
        raise AssetError("no network")

    monkeypatch.setattr("nemo_cosmos.guardrails.video.video_classifier.asset_path", missing)
    policy = GuardPolicy([VideoClassifierGuard()], audit=AuditLog(tmp_path / "a.jsonl"))
    with pytest.raises(RefusedError, match="no network"):
        policy.check_video(FRAMES)


@pytest.mark.parametrize(
    ("num_frames", "fps", "expected"),
    [
        (10, 8.0, [0, 4, 8, 9]),
        (10, 2.0, [*range(10)]),
        (10, 1.0, [*range(10)]),
        (3, 0.1, [0, 1, 2]),
        (5, 2.9, [*range(5)]),
        (1, 30.0, [0]),
        (16, 30.0, [0, 15]),
        (4, None, [0, 1, 2, 3]),
        (4, float("nan"), [0, 1, 2, 3]),
        (4, float("inf"), [0, 1, 2, 3]),
        (4, 0.0, [0, 1, 2, 3]),
        (4, -3.0, [0, 1, 2, 3]),
    ],
)
def test_frames_at_two_a_second(num_frames, fps, expected):
    assert frames_to_judge(num_frames, fps, 2.0) == expected


def test_a_guard_that_asks_for_no_rate_gets_every_frame():
    assert frames_to_judge(4, 30.0, None) == [0, 1, 2, 3]


@given(st.integers(1, 500), st.floats(0.01, 240))
def test_no_two_judged_frames_are_further_apart_than_the_rate_says(num_frames, fps):
    chosen = frames_to_judge(num_frames, fps, 2.0)
    assert (chosen[0], chosen[-1]) == (0, num_frames - 1)
    assert all(b - a == 1 or (b - a) / fps <= 0.5 + 1e-9 for a, b in itertools.pairwise(chosen))


def test_the_policy_gives_a_guard_the_frames_it_asks_for(tmp_path):
    seen = []

    def classifier(frames):
        seen.append(frames)
        return np.zeros(len(frames))

    policy = GuardPolicy([VideoClassifierGuard(classifier)], audit=AuditLog(tmp_path / "a.jsonl"))
    frames = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((12, 4, 4, 3), np.uint8)
    policy.check_video(frames, fps=8.0)
    policy.check_video(frames)
    assert seen[0][:, 0, 0, 0].tolist() == [0, 4, 8, 11]
    assert len(seen[1]) == 12
