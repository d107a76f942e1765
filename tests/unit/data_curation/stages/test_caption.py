"""The stage *caption* against a real HTTP server that speaks the protocol, and misbehaves."""

from __future__ import annotations

import base64
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from data_curation import CaptionSettings, CurateSettings, SplitSettings, curate
from data_curation.captions.interview import KEY_VARIABLE, REMINDER
from data_curation.clip import Rejection
from data_curation.settings import OPTIONAL_STAGES
from data_curation.stages.caption import PROMPT, CaptionStage
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError, ServiceError
from nemo_cosmos.testing.chat_server import question_of, words
from nemo_cosmos.video import Video, encode_video


@pytest.fixture
def caption_clips(store, make_clip, server, tmp_path, scene):
    def caption_clips(num_clips=1, num_frames=20, **settings):
        clips = []
        for number in range(num_clips):
            source = tmp_path / f"{number}.mp4"
            if not source.exists():
                encode_video(source, Video(scene(number, num_frames), fps=10))
            clip = replace(
                make_clip(source), clip_id=f"clip-{number}", num_frames=num_frames, fps=10,
                width=96, height=64, suffixes=("mp4",), content_sha256=f"{number}",
                caption_source="template",
            )  # fmt: skip
            store.put(clip.clip_id, "mp4", source.read_bytes())
            clips.append(clip)
        given = {"url": server.url, "model": "vlm", "pause_s": 0.01, **settings}
        return CaptionStage(CaptionSettings(**given), store).process_all(clips)

    return caption_clips


def test_the_model_sees_two_frames_a_second_and_the_prompt_of_the_paper(
    caption_clips, server, monkeypatch
):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    (clip,) = caption_clips()
    assert (clip.caption, clip.caption_source) == ("A scene, seen in 4.", "vlm")
    (body,) = server.requests
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("vlm", 8192, 0)
    content = body["messages"][0]["content"]
    assert content[-1] == {"type": "text", "text": PROMPT}
    head, _, data = content[0]["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (64, 96, 3)
    assert server.keys == ["Bearer secret"]


def test_long_clips_are_captioned_window_by_window(caption_clips, server):
    (clip,) = caption_clips(num_frames=50, window_frames=20, remainder_frames=10)
    spans = [(window["start_frame"], window["end_frame"]) for window in clip.extra["windows"]]
    assert spans == [(0, 19), (20, 39), (40, 49)]
    assert clip.caption == "A scene, seen in 4. A scene, seen in 4. A scene, seen in 2."


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: (429, b"slow down", {"retry-after": "0"}),
        lambda: (500, b"oops", {}),
        lambda: (503, b"", {"retry-after": "tomorrow"}),
        lambda: (200, b"<html>no JSON", {}),
        lambda: (200, b'{"choices": []}', {}),
        lambda: (200, b'{"choices": [{"message": {"content": null}}]}', {}),
        lambda: words("   "),
        lambda: (200, b'{"error": {"message": "overloaded"}}', {}),
        lambda: None,
    ],
)
def test_what_passes_is_tried_again(caption_clips, server, trouble):
    server.script = [trouble, trouble]
    (clip,) = caption_clips()
    assert clip.caption_source == "vlm" and len(server.requests) == 3


def test_a_time_out_is_tried_again(caption_clips, server):
    server.script = [lambda: time.sleep(1.0) or words("too late")]
    (clip,) = caption_clips(timeout_s=0.3)
    assert clip.caption == "A scene, seen in 4." and len(server.requests) == 2


def test_a_server_may_name_the_pause(caption_clips, server):
    server.script = [lambda: (429, b"", {"retry-after": "0.4"})]
    started = time.monotonic()
    caption_clips(pause_s=0.0)
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_does_not_pass_ends_the_run_at_once(caption_clips, server, status):
    server.script = [lambda: (status, b"wrong", {})] * 9
    with pytest.raises(ConfigError, match=f"status {status}.*{KEY_VARIABLE}"):
        caption_clips()
    assert len(server.requests) == 1


def test_a_bad_url_is_an_error(caption_clips):
    with pytest.raises(ConfigError, match="not the URL"):
        caption_clips(url="localhost:1/v1")


def test_a_request_that_the_server_does_not_take_rejects_the_clip(caption_clips, server):
    server.script = [lambda: (400, b"too many images", {})]
    first, second = caption_clips(num_clips=2, concurrency=1)
    assert isinstance(first, Rejection) and first.reason == "caption_failure"
    assert "too many images" in first.detail
    assert second.caption_source == "vlm"


def test_a_model_that_never_says_a_word_rejects_the_clip(caption_clips, server):
    server.script = [lambda: words("")] * 3
    (clip,) = caption_clips(max_tries=3)
    assert isinstance(clip, Rejection) and "without words, 3 times" in clip.detail


def test_an_answer_that_is_cut_off_is_not_asked_for_again_unchanged(caption_clips, server):
    server.script = [lambda: words("A scene that is cut", finish="length")]
    (clip,) = caption_clips()
    assert isinstance(clip, Rejection) and clip.reason == "caption_failure"
    assert "cut off at 8192 tokens" in clip.detail and len(server.requests) == 1


@pytest.mark.parametrize(
    "text",
    [
        "<think>A scene?</think>\n\nA street in the rain.",
        "```text\nA street in the rain.\n```",
        "A street in the rain.<|im_end|>",
    ],
)
def test_what_a_model_wraps_around_a_caption_is_no_part_of_it(caption_clips, server, text):
    server.answer = lambda body: text
    assert caption_clips()[0].caption == "A street in the rain."


@pytest.mark.parametrize(
    "text", ["I can't assist with that request.", "<think>a scene", "```\n```"]
)
def test_a_refusal_is_counted_as_a_caption_failure(caption_clips, server, text):
    server.answer = lambda body: text
    (clip,) = caption_clips()
    assert isinstance(clip, Rejection) and clip.reason == "caption_failure"
    assert text.split()[0] in clip.detail
    asked = [question_of(body) for body in server.requests]
    assert asked == [PROMPT, f"{PROMPT}\n{REMINDER}"]


def test_a_model_that_refuses_at_first_is_asked_once_more(caption_clips, server):
    server.script = [lambda: words("I'm sorry, I can't help with that.")]
    (clip,) = caption_clips()
    assert clip.caption == "A scene, seen in 4."


@pytest.mark.parametrize("page", [b"<html>no JSON", b'{"error": "no GPU"}', b'{"choices": []}'])
def test_error_pages_with_status_200_end_the_run_as_a_server_that_is_down_does(
    caption_clips, server, page
):
    server.script = [lambda: (200, page, {})] * 2
    with pytest.raises(ServiceError, match="in 2 tries"):
        caption_clips(max_tries=2)


def test_a_server_that_is_down_ends_the_run_and_what_it_said_is_kept(caption_clips, server):
    fine, down = (lambda: words("Good.")), (lambda: (500, b"", {}))
    server.script = [fine, fine, *[down] * 2]
    with pytest.raises(ServiceError, match="run the same command again"):
        caption_clips(num_clips=4, concurrency=1, max_tries=2)
    asked = len(server.requests)
    clips = caption_clips(num_clips=4, concurrency=1)
    assert len(server.requests) - asked == 2
    assert [clip.caption for clip in clips[:2]] == ["Good.", "Good."]
    assert [clip.caption for clip in clips[2:]] == ["A scene, seen in 4."] * 2


def test_another_question_is_asked_anew(caption_clips, server):
    caption_clips()
    caption_clips()
    assert len(server.requests) == 1
    caption_clips(prompt="Which animals are there?")
    assert len(server.requests) == 2


def test_requests_run_side_by_side_up_to_the_bound(caption_clips, server):
    server.delay_s = 0.15
    caption_clips(num_clips=8, concurrency=3)
    assert server.most_at_once == 3 and len(server.requests) == 8


def test_it_works_inside_a_running_event_loop(caption_clips):
    import asyncio

    async def notebook():
        return caption_clips()

    (clip,) = asyncio.run(notebook())
    assert clip.caption_source == "vlm"


def test_a_whole_run_keeps_words_that_came_along(raw, tmp_path, server):
    settings = CurateSettings(
        split=SplitSettings(min_clip_s=1),
        caption=CaptionSettings(url=server.url, model="vlm"),
        skip=OPTIONAL_STAGES,
    )
    curate(raw, tmp_path / "out", settings)
    records = [sample.record for sample in read_samples(tmp_path / "out")]
    assert sorted(record.caption_source for record in records) == ["sidecar", "vlm", "vlm"]
    assert all("windows" in r.extra for r in records if r.caption_source == "vlm")
    asked = len(server.requests)
    again = curate(raw, tmp_path / "out", settings)
    assert len(server.requests) == asked == 2 and again.num_reused == 4


@pytest.mark.parametrize("wrong", [{"url": "http://x/v1"}, {"sample_fps": 0}, {"max_tries": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        CaptionSettings(**wrong)
