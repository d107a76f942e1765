"""Every fault is rejected by its name, and a clean clip passes with its scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from data_curation.clip import Clip, Rejection
from data_curation.stages.visual_quality import (
    RECOMMENDED,
    VisualQualitySettings,
    VisualQualityStage,
)
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import Video, encode_video

PICTURE = astronaut()[:256, 100:356]


@pytest.fixture
def run(store, tmp_path):
    def run(picture, **settings):
        frames = np.stack([np.roll(picture, shift, axis=1) for shift in range(6)])
        encode_video(tmp_path / "v.mp4", Video(frames, fps=10), crf=10)
        store.put("c", "mp4", (tmp_path / "v.mp4").read_bytes())
        clip = Clip(source=Path("v.mp4"), name="v.mp4", clip_id="c", num_frames=6)
        stage = VisualQualityStage(replace(RECOMMENDED, **{"num_frames": 2, **settings}), store)
        stage.prepare()
        return stage.process(clip)

    return run


def jpeg(picture: np.ndarray) -> np.ndarray:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 6]
    return cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)


def barred(picture: np.ndarray) -> np.ndarray:
    picture = picture.copy()
    picture[:60] = picture[-60:] = 0
    return picture


def test_a_clean_clip_passes_with_its_scores(run):
    clip = run(PICTURE)
    assert isinstance(clip, Clip)
    assert set(clip.scores) == {"bar_share", "black_share", "white_share", "blockiness", "blur"}
    assert clip.scores["bar_share"] == 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda picture: cv2.GaussianBlur(picture, (0, 0), 5), "blurred"),
        (lambda picture: picture // 24, "underexposed"),
        (lambda picture: np.clip(picture * 3.0 + 90, 0, 255).astype(np.uint8), "overexposed"),
        (jpeg, "blocky"),
        (barred, "letterbox"),
    ],
)
def test_every_fault_has_its_reason(run, spoil, reason):
    result = run(spoil(PICTURE))
    assert isinstance(result, Rejection)
    assert result.reason == reason
    assert "wanted" in result.detail


def test_brisque_is_computed_when_it_is_asked_for(run):
    assert run(PICTURE, max_brisque=100).scores["brisque"] < 60
    blurred = cv2.GaussianBlur(PICTURE, (0, 0), 5)
    assert run(blurred, max_brisque=30, max_blur=1).reason == "brisque"


def test_a_damaged_clip_is_a_decode_failure(store):
    store.put("c", "mp4", b"damaged")
    clip = Clip(source=Path("v.mp4"), name="v.mp4", clip_id="c", num_frames=6)
    result = VisualQualityStage(VisualQualitySettings(), store).process(clip)
    assert isinstance(result, Rejection)
    assert result.reason == "decode_failure"


@pytest.mark.parametrize(
    "settings", [{"clip_model": "a"}, {"aesthetic_head": "b"}, {"num_frames": 0}]
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ConfigError):
        VisualQualitySettings(**settings)
