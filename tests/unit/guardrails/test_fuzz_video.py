"""Whatever array comes, a video gets a verdict: frames of the same shape, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError
from nemo_cosmos.guardrails.faces.boxes import Face
from nemo_cosmos.guardrails.faces.face_blur import FaceBlur
from nemo_cosmos.guardrails.video.video_classifier import VideoClassifierGuard

QUIET = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FLOATS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1e-9, 1e300, float("inf"), float("nan")])


def verdict_of(policy: GuardPolicy, video: object, fps: float | None = None) -> bool:
    """Whether the video passed; anything but frames and a refusal fails the test."""
    try:
        safe, verdicts = policy.check_video(video, fps=fps)  # type: ignore[arg-type]
    except RefusedError as refusal:
        assert any(not v.allowed for v in refusal.verdicts)
        return False
    assert isinstance(video, np.ndarray)
    assert (safe.shape, safe.dtype) == (video.shape, video.dtype)
    assert all(v.allowed for v in verdicts)
    return True


@pytest.fixture
def policy(tmp_path):
    """The policy with cheap networks behind the real guards."""
    face = Face(-3.0, 1.0, 25.0, 30.0, 0.9)
    guards = [
        VideoClassifierGuard(lambda x: x.mean(axis=(1, 2, 3)) / 256),
        FaceBlur(lambda f: [face]),
    ]
    return GuardPolicy(guards, audit=AuditLog(tmp_path / "a.jsonl"))


DTYPES = hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes()
SHAPES = hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=5)


@QUIET
@given(st.data())
def test_any_array(policy, data):
    video = data.draw(hnp.arrays(data.draw(DTYPES), data.draw(SHAPES)))
    passed = verdict_of(policy, video)
    is_video = video.dtype == np.uint8 and video.ndim == 4 and video.shape[-1:] == (3,)
    assert is_video or not passed


@QUIET
@given(
    hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 3, st.just(3))),
    st.none() | FLOATS,
)
def test_any_video_and_frame_rate(policy, video, fps):
    before = video.copy()
    verdict_of(policy, video, fps)
    assert (video == before).all()


@pytest.mark.parametrize(
    "thing", [None, "text", b"bytes", 3, [], [[1, 2]], {}, object(), np.ma.masked, np.float64(3)]
)
def test_things_that_are_no_array(policy, thing):
    assert not verdict_of(policy, thing)


def test_frames_that_cannot_be_written_or_are_not_contiguous(policy):
    frames = np.random.default_rng(0).integers(0, 200, (4, 20, 30, 3), dtype=np.uint8)
    frames.flags.writeable = False
    assert verdict_of(policy, frames)
    assert verdict_of(policy, frames[::-2, ::2, ::-1, ::-1])
    assert verdict_of(policy, np.broadcast_to(frames[:1, :1], (5, 30, 30, 3)))


@QUIET
@given(st.lists(st.lists(st.builds(Face, FLOATS, FLOATS, FLOATS, FLOATS, FLOATS), max_size=3)))
def test_any_boxes_of_a_detector(tmp_path, boxes):
    answers = iter(boxes)
    guard = FaceBlur(lambda frame: next(answers))
    policy = GuardPolicy([guard], audit=AuditLog(tmp_path / "a.jsonl"))
    verdict_of(policy, np.zeros((max(1, len(boxes)), 8, 8, 3), np.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 700), (31, 33)])
def test_the_default_guards_on_odd_sizes(shape, tmp_path):
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    policy = GuardPolicy.default(audit_path=tmp_path / "a.jsonl")
    assert verdict_of(policy, frames)
