"""Captions: the words that came with a video, else what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_curation.stages.base import Clip, Rejection
from data_curation.stages.caption import CaptionStage, Look, look_at, template_caption
from nemo_cosmos.video import Video, encode_video

CLIP = Clip(source=Path("v.mp4"), name="v.mp4", num_frames=50, fps=10, width=96, height=64)


@pytest.fixture
def caption(tmp_path, store, scene):
    def caption(words=None) -> Clip | Rejection:
        source = tmp_path / "v.mp4"
        encode_video(source, Video(scene(1, 12), fps=10))
        store.put("c", "mp4", source.read_bytes())
        if words is not None:
            text = words if isinstance(words, str) else json.dumps(words)
            source.with_suffix(".json").write_text(text)
        clip = replace(CLIP, source=source, clip_id="c", suffixes=("mp4",), num_frames=12)
        return CaptionStage(store).process(clip)

    return caption


@pytest.mark.parametrize("key", ["caption", "language"])
def test_words_that_come_with_the_video_are_kept(caption, key):
    clip = caption({key: " push\n the red  block ", "task": "push", "fps": 1, "key": "x"})
    assert (clip.caption, clip.caption_source) == ("push the red block", "sidecar")
    assert clip.extra["task"] == "push"
    assert not {"fps", "key", "caption"} & set(clip.extra)


def test_the_writer_of_the_words_is_kept(caption):
    assert caption({"caption": "x", "caption_source": "script"}).caption_source == "script"


@pytest.mark.parametrize("words", [None, {}, {"caption": ""}, {"caption": 7}, {"caption": None}])
def test_a_missing_caption_is_written_from_what_was_measured(caption, words):
    clip = caption(words)
    assert clip.caption_source == "template"
    assert clip.caption.startswith("A landscape video of 1 seconds")


@pytest.mark.parametrize("words", ["{not json", "[1, 2]"])
def test_a_damaged_sidecar_rejects_the_clip(caption, words):
    result = caption(words)
    assert isinstance(result, Rejection)
    assert result.reason == "sidecar"


@pytest.mark.parametrize(
    ("colour", "words"),
    [
        ((255, 0, 0), "mostly red"),
        ((0, 200, 0), "mostly green"),
        ((0, 0, 250), "dark, mostly blue"),
        ((250, 250, 250), "brightly lit, in muted colors"),
    ],
)
def test_the_template_says_what_is_there(colour, words):
    frames = np.full((2, 8, 8, 3), colour, dtype=np.uint8)
    assert words in template_caption(look_at(frames), CLIP)


def test_the_template_speaks_of_motion_when_it_was_measured():
    look = Look(luma=100, saturation=0, hue=0)
    assert "motion" not in template_caption(look, CLIP)
    assert "almost no motion" in template_caption(look, CLIP.with_scores(motion_global_mean=0))
    assert "strong motion" in template_caption(look, CLIP.with_scores(motion_global_mean=1))
    assert "portrait" in template_caption(look, replace(CLIP, height=200))
