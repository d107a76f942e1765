"""Words that came with a video, else what a template may say is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_curation.clip import Clip, Rejection
from data_curation.stages.words import WordsStage
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
        return WordsStage(store).process(clip)

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
def test_what_a_template_may_say_is_measured_where_words_are_missing(caption, words):
    clip = caption(words)
    assert (clip.caption, clip.caption_source) == ("", "template")
    assert set(clip.scores) == {"luma", "contrast", "saturation"}
    assert "main_colour" in clip.extra


@pytest.mark.parametrize("words", ["{not json", "[1, 2]"])
def test_a_damaged_sidecar_rejects_the_clip(caption, words):
    result = caption(words)
    assert isinstance(result, Rejection)
    assert result.reason == "sidecar"
