"""The stage *text_overlay*: captions are rejected, signs in the scene and clean clips pass."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage import data

from data_curation.clip import Clip, Rejection
from data_curation.stages.text_overlay import (
    TextOverlaySettings,
    TextOverlayStage,
    look_numbers,
)
from data_curation.text_overlay.detector import TextBox
from data_curation.text_overlay.persistence import burnt_in
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import Video, encode_video

PICTURE = cv2.resize(data.astronaut(), (900, 700))


def write(frame: np.ndarray, words: str = "Some words to read", at=(60, 320)) -> np.ndarray:
    frame = np.ascontiguousarray(frame)
    cv2.putText(frame, words, at, cv2.FONT_HERSHEY_DUPLEX, 1.1, (0, 0, 0), 6, cv2.LINE_AA)
    cv2.putText(frame, words, at, cv2.FONT_HERSHEY_DUPLEX, 1.1, (255, 255, 255), 2, cv2.LINE_AA)
    return frame


def pan(picture: np.ndarray, num_frames: int = 10) -> np.ndarray:
    shifts = [(12 * t, 20 * t) for t in range(num_frames)]
    return np.stack([picture[y : y + 352, x : x + 640] for y, x in shifts])


@pytest.fixture
def judge(tmp_path, store, make_clip):
    def judge(frames, **settings) -> Clip | Rejection:
        source = tmp_path / "v.mp4"
        encode_video(source, Video(frames, fps=10))
        clip = make_clip(source)
        store.put(clip.clip_id, "mp4", source.read_bytes())
        facts = {"num_frames": len(frames), "fps": 10, "width": 640, "height": 352}
        stage = TextOverlayStage(TextOverlaySettings(**settings), store)
        return stage.process(replace(clip, suffixes=("mp4",), **facts))

    return judge


def test_a_caption_over_a_moving_scene_is_burnt_in(judge):
    frames = np.stack([write(frame) for frame in pan(PICTURE)])
    result = judge(frames)
    assert isinstance(result, Rejection) and result.reason == "text_overlay"
    assert "burnt-in text covers" in result.detail
    passed = judge(frames, max_overlay_share=1.0)
    assert 0.02 < passed.scores["text_overlay_share"] <= passed.scores["text_share"] < 0.2


def test_a_sign_that_moves_with_the_scene_passes(judge):
    result = judge(pan(write(PICTURE.copy(), at=(200, 380))), num_looks=2)
    assert result.scores["text_share"] > 0.01 and result.scores["text_overlay_share"] == 0


def test_a_sign_before_a_fixed_camera_passes_as_it_cannot_be_told(judge):
    still = np.repeat(write(PICTURE[:352, :640].copy())[None], 10, axis=0)
    result = judge(still, num_looks=1)
    assert result.scores["text_share"] > 0.01 and result.scores["text_overlay_share"] == 0


def test_a_page_of_text_is_rejected_though_it_is_not_burnt_in(judge):
    page = np.full((352, 640, 3), 255, dtype=np.uint8)
    for row in range(8):
        page = write(page, "All of this is text, line by line", at=(10, 40 + 42 * row))
    result = judge(np.repeat(page[None], 6, axis=0), num_looks=1)
    assert isinstance(result, Rejection) and result.detail.startswith("text covers")


def test_a_clip_without_text_passes(judge):
    assert judge(pan(PICTURE), num_looks=1).scores["text_overlay_share"] == 0


def test_lettering_on_what_the_camera_follows_is_not_burnt_in():
    # A textured bus stands still in the picture, the street behind it moves.
    bus = write(cv2.resize(data.coffee(), (400, 200)), "CITY LINES", at=(60, 110))
    frames = []
    for shift in (0, 80):
        frame = PICTURE[:352, shift : shift + 640].copy()
        frame[80:280, 100:500] = bus
        frames.append(frame)
    left, top, right, bottom = 150 / 640, 155 / 352, 400 / 640, 200 / 352
    corners = np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])
    box = TextBox(corners, 1.0)
    assert burnt_in([box], *frames) == []
    street = [PICTURE[:352, shift : shift + 640].copy() for shift in (0, 80)]
    over = [write(frame, "CITY LINES", at=(160, 190)) for frame in street]
    assert burnt_in([box], *over) == [box]
    assert burnt_in([], *over) == []


def test_a_clip_that_cannot_be_decoded_is_counted_as_such(judge, store, scene):
    judge(scene(1, 4, 352, 640), num_looks=1)
    store.put("clip-0-4", "mp4", b"no video")
    clip = Clip(source=store.output / "v.mp4", name="v.mp4", clip_id="clip-0-4", fps=10)
    clip = replace(clip, num_frames=4, width=640, height=352)
    result = TextOverlayStage(TextOverlaySettings(), store).process(clip)
    assert isinstance(result, Rejection) and result.reason == "decode_failure"


def test_looks_fit_clips_of_any_length():
    assert [numbers.tolist() for numbers in look_numbers(100, 10, 2)] == [[23, 71], [28, 76]]
    assert [numbers.tolist() for numbers in look_numbers(1, 10, 2)] == [[0, 0], [0, 0]]
    firsts, seconds = look_numbers(2, 30, 3)
    assert firsts.min() >= 0 and seconds.max() <= 1


@pytest.mark.parametrize("wrong", [{"max_overlay_share": 2}, {"num_looks": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        TextOverlaySettings(**wrong)
