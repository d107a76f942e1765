"""The best encoder that works is chosen; the one that is used here is really opened."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.errors import MissingDependencyError, VideoError
from nemo_cosmos.video import Video, decode, encode_video, encoders
from nemo_cosmos.video.encoders import ENCODERS, can_open, choose_encoder, encoder_options


def test_the_gpu_comes_first_and_then_what_is_there():
    assert choose_encoder("auto", lambda _: True) == "h264_nvenc"
    assert choose_encoder("auto", lambda name: name != "h264_nvenc") == "libx264"
    assert choose_encoder("auto", lambda name: name == "libopenh264") == "libopenh264"
    assert choose_encoder("libx264", lambda _: True) == "libx264"


def test_none_that_works_is_an_error():
    with pytest.raises(MissingDependencyError, match="cannot be opened"):
        choose_encoder("auto", lambda _: False)
    with pytest.raises(MissingDependencyError, match="h264_nvenc"):
        choose_encoder("h264_nvenc", lambda name: name == "libx264")


def test_an_unknown_encoder():
    with pytest.raises(VideoError, match="no encoder 'mpeg2'"):
        choose_encoder("mpeg2")


def test_what_is_chosen_here_encodes(tmp_path, moving_square_THWC):
    assert not can_open("no such encoder")
    encoder = choose_encoder()
    assert can_open(encoder)
    encode_video(tmp_path / "v.mp4", Video(moving_square_THWC, fps=10), encoder="auto")
    found = decode(tmp_path / "v.mp4").frames_THWC
    assert np.abs(found.astype(int) - moving_square_THWC).mean() < 4


def test_one_that_refuses_the_video_gives_way_to_the_next(
    tmp_path, moving_square_THWC, monkeypatch
):
    """What looked able at another size: NVENC refuses small pictures, and here any."""
    monkeypatch.setattr(encoders, "can_open", lambda name: True)
    monkeypatch.setattr(encoders, "ENCODERS", ("mjpeg", *ENCODERS))  # takes no limited range
    video = Video(moving_square_THWC, fps=10)
    encode_video(tmp_path / "auto.mp4", video, encoder="auto")
    assert decode(tmp_path / "auto.mp4").num_frames == video.num_frames
    with pytest.raises(VideoError, match=r"refused 25 frames of 96x64 .*\(mjpeg: "):
        encode_video(tmp_path / "named.mp4", video, encoder="mjpeg")
    assert not (tmp_path / "named.mp4").exists()


def test_every_encoder_is_asked_for_the_quality():
    assert encoder_options("h264_nvenc", 21, "medium")["cq"] == "21"
    assert encoder_options("libx264", 21, "fast")["crf"] == "21"
    assert all(encoder_options(encoder, 21, "medium") for encoder in ENCODERS)
