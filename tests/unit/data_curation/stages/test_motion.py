"""Motion scores: the golden values of cosmos-curate, small frames, streams without vectors."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from data_curation.clip import Clip, Rejection
from data_curation.frames import OpenClip
from data_curation.stages import motion
from data_curation.stages.motion import (
    MotionScores,
    MotionSettings,
    MotionStage,
    paint_vectors,
)
from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import Video, encode_video


def measure_motion(content: bytes) -> MotionScores:
    with OpenClip(content) as opened:
        return motion.measure_motion(opened)


def test_the_golden_values(samples_dir):
    scores = measure_motion((samples_dir / "curation" / "test_clip_10s.mp4").read_bytes())
    assert scores.global_mean == pytest.approx(0.002402, abs=1e-6)
    assert scores.per_patch_min_256 == pytest.approx(0.001553, abs=1e-6)


VECTOR = np.dtype("u1, u1, i2, i2, i4, i4, u2")
VECTOR.names = ("w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")


def test_vectors_paint_their_blocks_and_larger_blocks_come_later():
    vectors = np.array(
        [(16, 16, 8, 8, 12, 16, 4), (8, 8, 4, 4, 400, 0, 4), (8, 8, 28, 20, 8, 0, 4)], dtype=VECTOR
    )
    painted = paint_vectors(vectors, 24, 32) * (24 + 32)
    assert painted[:16, :16] == pytest.approx(5)
    assert painted[16:24, 24:32] == pytest.approx(2)
    assert painted.sum() == pytest.approx(16 * 16 * 5 + 8 * 8 * 2)


def test_blocks_beyond_the_border_paint_the_border():
    vectors = np.array([(8, 8, 34, 4, 4, 0, 4)], dtype=VECTOR)
    painted = paint_vectors(vectors, 16, 32) > 0
    assert painted[:8, 30:].all()
    assert painted.sum() == 16


def encoded(path, frames, **options) -> bytes:
    encode_video(path, Video(frames, fps=10), **options)
    return path.read_bytes()


def test_small_frames_have_scores_and_a_still_video_has_none(tmp_path, scene):
    moving = measure_motion(encoded(tmp_path / "a.mp4", scene(1, 60)))
    still = measure_motion(encoded(tmp_path / "b.mp4", np.repeat(scene(1, 1), 60, axis=0)))
    assert moving.global_mean > 0.005
    assert moving.per_patch_min_256 > 0.005
    assert still.global_mean == still.per_patch_min_256 == 0


def test_a_stream_of_keyframes_is_measured_by_optical_flow(tmp_path, scene):
    moving = measure_motion(encoded(tmp_path / "a.mp4", scene(1, 20), keyframe_interval=1))
    still = np.repeat(scene(1, 1), 20, axis=0)
    # Two pixels a frame over height plus width, 64 + 96.
    assert moving.global_mean == pytest.approx(2 / 160, rel=0.3)
    still_score = measure_motion(encoded(tmp_path / "b.mp4", still, keyframe_interval=1))
    assert still_score.global_mean < 1e-4
    single = measure_motion(encoded(tmp_path / "c.mp4", still[:1]))
    assert single.global_mean == 0


def test_what_cannot_be_decoded_raises():
    with pytest.raises(VideoError, match="cannot be decoded"):
        measure_motion(b"no video at all")


@pytest.fixture
def stage(store):
    def stage(clip_bytes, **settings):
        store.put("c", "mp4", clip_bytes)
        clip = Clip(source=Path("v.mp4"), name="v.mp4", clip_id="c", suffixes=("mp4",))
        return MotionStage(MotionSettings(**settings), store).process(clip)

    return stage


def test_the_stage_rejects_still_clips_and_scores_others(stage, tmp_path, scene):
    moving = stage(encoded(tmp_path / "a.mp4", scene(1, 60)))
    assert set(moving.scores) == {"motion_global_mean", "motion_per_patch_min_256"}
    still = encoded(tmp_path / "b.mp4", np.repeat(scene(1, 1), 60, axis=0))
    assert stage(still).reason == "motion"
    assert isinstance(stage(still, min_global_mean=0, min_per_patch=0), Clip)
    assert "stillest patch" in stage(still, min_global_mean=0).detail


def test_a_decode_failure_is_never_motion(stage):
    result = stage(b"damaged")
    assert isinstance(result, Rejection)
    assert result.reason == "decode_failure"


def test_the_flag_for_motion_vectors_is_there():
    """PyAV renamed it once; without it every clip would be measured by optical flow."""
    assert hasattr(av.codec.context.Flags2, "export_mvs")
