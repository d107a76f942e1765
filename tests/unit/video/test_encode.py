"""Encoding: plays everywhere, comes back the same, is whole or not there."""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest

from nemo_cosmos.errors import StorageFullError, VideoError
from nemo_cosmos.video import Video, decode, encode_video, index_frames, probe


@pytest.fixture
def video(moving_square_THWC):
    return Video(moving_square_THWC, fps=24)


def test_plays_everywhere(tmp_path, video):
    path = tmp_path / "new folder" / "clip.mp4"
    encode_video(path, video)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        assert stream.frames == 25
        assert stream.average_rate == 24
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index stands at the end"


@pytest.mark.parametrize("fps", [24, 23.976, 5, 29.97, 60])
def test_frame_rate_comes_back(tmp_path, video, fps):
    encode_video(tmp_path / "clip.mp4", Video(video.frames_THWC, fps=fps), preset="ultrafast")
    info = probe(tmp_path / "clip.mp4")
    assert info.fps == pytest.approx(fps, rel=1e-4)
    assert info.duration_s == pytest.approx(25 / fps, rel=1e-3)
    assert not info.variable_frame_rate


def test_uneven_timestamps_come_back(tmp_path, video):
    pts_s = np.array([1.0, 1.04, 1.5, 3.0, 3.01])
    encode_video(tmp_path / "clip.mp4", Video(video.frames_THWC[:5], 24, pts_s))
    back = decode(tmp_path / "clip.mp4")
    np.testing.assert_allclose(back.pts_s, pts_s - 1, atol=1e-4)


def test_timestamps_must_increase(tmp_path, video):
    with pytest.raises(VideoError, match="do not increase"):
        encode_video(tmp_path / "x.mp4", Video(video.frames_THWC[:3], 24, np.zeros(3)))
    assert not (tmp_path / "x.mp4").exists()


def test_colours_are_right_in_decoders_that_ignore_tags(tmp_path):
    colours = np.array([[200, 60, 40], [40, 180, 70], [50, 60, 190]], dtype=np.uint8)
    frame_HWC = np.broadcast_to(np.repeat(colours, 32, axis=0), (64, 96, 3))
    encode_video(tmp_path / "clip.mp4", Video(frame_HWC[None].copy(), 24), crf=1)
    capture = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    _, opencv_BGR = capture.read()
    capture.release()
    ours = decode(tmp_path / "clip.mp4").frames_THWC[0]
    for column, colour in zip((16, 48, 80), colours, strict=True):
        assert np.abs(ours[32, column].astype(int) - colour).max() <= 3
        assert np.abs(opencv_BGR[32, column, ::-1].astype(int) - colour).max() <= 3


@pytest.mark.parametrize("height", [1, 2, 15, 16])
@pytest.mark.parametrize("width", [1, 17, 18])
def test_any_size_comes_back(tmp_path, height, width):
    frames_THWC = np.full((2, height, width, 3), 128, dtype=np.uint8)
    encode_video(tmp_path / "clip.mp4", Video(frames_THWC, fps=24))
    assert decode(tmp_path / "clip.mp4").frames_THWC.shape == frames_THWC.shape


def test_metadata_comes_back(tmp_path, video):
    record = json.dumps({"prompt": "a robot picks up the räd block", "seed": 1})
    encode_video(tmp_path / "clip.mp4", video, metadata={"provenance": record, "title": "t"})
    metadata = probe(tmp_path / "clip.mp4").metadata
    assert metadata["provenance"] == record
    assert metadata["title"] == "t"


def test_same_frames_give_the_same_bytes(tmp_path, video):
    written = set()
    for _ in range(8):
        encode_video(tmp_path / "a.mp4", video)
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1


def test_keyframe_interval(tmp_path, video):
    encode_video(tmp_path / "clip.mp4", video, keyframe_interval=5)
    assert len(index_frames(tmp_path / "clip.mp4").keyframe_pts) == 5


def test_lower_crf_is_closer(tmp_path, video):
    noise = np.random.default_rng(0).integers(0, 40, video.frames_THWC.shape, dtype=np.uint8)
    noisy = Video(video.frames_THWC // 2 + noise, fps=24)
    errors = []
    for crf in (5, 30):
        encode_video(tmp_path / "clip.mp4", noisy, crf=crf)
        decoded = decode(tmp_path / "clip.mp4").frames_THWC
        errors.append(np.abs(decoded.astype(int) - noisy.frames_THWC).mean())
    assert errors[0] < errors[1]


def test_crf_out_of_range(tmp_path, video):
    with pytest.raises(VideoError, match=r"0 .* to 51"):
        encode_video(tmp_path / "clip.mp4", video, crf=60)


def test_unknown_preset_leaves_nothing(tmp_path, video):
    with pytest.raises(VideoError, match="wrong"):
        encode_video(tmp_path / "clip.mp4", video, preset="wrong")
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_keeps_the_old_file(tmp_path, video, monkeypatch):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")

    def full(*args, **kwargs):
        raise av.error.OSError(28, "No space left on device", "clip.mp4")

    monkeypatch.setattr("nemo_cosmos.video.encode._write", full)
    with pytest.raises(StorageFullError, match="No space left"):
        encode_video(path, video)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
