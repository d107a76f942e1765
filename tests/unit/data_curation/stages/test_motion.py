"""Motion scores: the golden values of cosmos-curate, small frames, streams without vectors."""

from __future__ import annotations

import av
import numpy as np
import pytest

from data_curation.clip import Clip, Rejection
from data_curation.stages.motion import (
    Measurement,
    MotionScores,
    MotionSettings,
    MotionStage,
    paint_vectors,
)
from data_curation.stages.transcode import TranscodeSettings, TranscodeStage
from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import Video, encode_video, index_frames


def measure_motion(content: bytes, *span: int) -> MotionScores:
    return Measurement(content, index_frames(content), *span).scores


def test_a_source_has_the_golden_values_in_its_shard_though_it_is_encoded_again(
    samples_dir, store, make_clip
):
    clip = make_clip(samples_dir / "curation" / "test_clip_10s.mp4")
    scored = MotionStage(MotionSettings(), store).process(clip)
    small = TranscodeStage(TranscodeSettings(short_side_px=120), store).process(scored)
    assert small.height == 120
    scores = MotionScores(
        small.scores["motion_global_mean"], small.scores["motion_per_patch_min_256"]
    )
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


def test_a_span_is_measured_alone(tmp_path, scene):
    still = np.repeat(scene(1, 1), 60, axis=0)
    content = encoded(tmp_path / "a.mp4", np.concatenate([still, scene(1, 60)]))
    assert measure_motion(content, 0, 60).global_mean == 0
    assert measure_motion(content, 60, 120).global_mean > 0.005


@pytest.fixture
def stage(store, make_clip):
    def stage(path, **settings):
        return MotionStage(MotionSettings(**settings), store).process(make_clip(path))

    return stage


def test_the_stage_rejects_still_spans_and_scores_others(stage, store, tmp_path, scene):
    encoded(tmp_path / "a.mp4", scene(1, 60))
    moving = stage(tmp_path / "a.mp4")
    assert set(moving.scores) == {"motion_global_mean", "motion_per_patch_min_256"}
    encoded(tmp_path / "b.mp4", np.repeat(scene(1, 1), 60, axis=0))
    still = stage(tmp_path / "b.mp4")
    assert still.reason == "motion" and store.thumbnail(still.clip_id)
    assert isinstance(stage(tmp_path / "b.mp4", min_global_mean=0, min_per_patch=0), Clip)
    assert "stillest patch" in stage(tmp_path / "b.mp4", min_global_mean=0).detail


def test_a_decode_failure_is_never_motion(stage, tmp_path, scene, make_clip, store):
    content = bytearray(encoded(tmp_path / "a.mp4", scene(1, 60), keyframe_interval=60))
    clip = make_clip(tmp_path / "a.mp4")
    content[2000:-4000] = bytes(len(content) - 6000)
    (tmp_path / "a.mp4").write_bytes(bytes(content))
    result = MotionStage(MotionSettings(), store).process(clip)
    assert isinstance(result, Rejection)
    assert result.reason == "decode_failure"


def test_the_flag_for_motion_vectors_is_there():
    """PyAV renamed it once; without it every clip would be measured by optical flow."""
    assert hasattr(av.codec.context.Flags2, "export_mvs")
