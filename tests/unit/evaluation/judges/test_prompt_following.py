"""A judge behind a real HTTP server: what it is shown, and how its answer is read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, ServiceError
from nemo_cosmos.evaluation import Case, choose_metrics, evaluate_cases, make_record
from nemo_cosmos.evaluation.judges import vision as module
from nemo_cosmos.services import NoAnswerError
from nemo_cosmos.testing.chat_server import ChatServer, num_pictures, question_of, words


def verdict(score: object) -> str:
    return json.dumps({"reason": "The robot waves.", "score": score})


@pytest.fixture
def server(monkeypatch):
    server = ChatServer(lambda body: verdict(4 if "waves" in question_of(body) else 1))
    monkeypatch.setenv(module.URL_VARIABLE, server.url)
    monkeypatch.setenv(module.MODEL_VARIABLE, "a-judge")
    monkeypatch.setenv(module.KEY_VARIABLE, "secret")
    yield server
    server.close()


def case(name: str, prompt: str | None, num_frames: int = 25) -> Case:
    return Case(name, np.zeros((num_frames, 16, 32, 3), np.uint8), prompt=prompt)


def evaluate(*cases: Case):
    return evaluate_cases(cases, choose_metrics(["prompt_following"]))


def test_each_video_is_judged_by_its_own_prompt_without_a_truth(server):
    result = evaluate(case("a", "A robot waves {twice}."), case("b", "A car turns left."))
    assert {name: clip.scores for name, clip in result.clips.items()} == {
        "a": {"prompt_following": 4.0},
        "b": {"prompt_following": 1.0},
    }
    assert result.scores["prompt_following"].value == 2.5
    shown = make_record(result, {})
    assert shown["reasons"]["a"] == {"prompt_following": "The robot waves."}
    assert shown["metrics"]["prompt_following"]["features"]["version"] == "a-judge"
    assert set(server.keys) == {"Bearer secret"}
    body = server.requests[0]
    assert num_pictures(body) == 8 and "response_format" in body
    assert any("A robot waves {twice}." in question_of(body) for body in server.requests)


def test_a_short_video_shows_every_frame_once(server):
    evaluate(case("a", "It waves.", num_frames=3))
    assert num_pictures(server.requests[0]) == 3


def test_words_around_the_object_are_passed_over(server):
    server.answer = lambda body: f"<think>{{well}}</think> ```json\n{verdict(3)}\n```"
    assert evaluate(case("a", "It waves.")).scores["prompt_following"].value == 3.0


@pytest.mark.parametrize(
    "answer", ["Good!", "{}", "[4]", '{"score": 4}', verdict(6), verdict("4"), verdict(True)]
)
def test_an_answer_in_another_format_is_an_error(server, answer):
    server.answer = lambda body: answer
    with pytest.raises(ServiceError, match="judge"):
        evaluate(case("a", "It waves."))


def test_no_prompt_and_no_judge_are_errors_with_the_fix(server, monkeypatch):
    with pytest.raises(ConfigError, match=r"needs 'prompt'.*'a' has none"):
        evaluate(case("a", None))
    monkeypatch.delenv(module.MODEL_VARIABLE)
    with pytest.raises(ConfigError, match=module.MODEL_VARIABLE):
        evaluate(case("a", "It waves."))
    assert server.requests == []


def test_a_cut_answer_is_not_read(server):
    server.script = [lambda: words(verdict(4)[:-3], finish="length")]
    with pytest.raises(NoAnswerError, match="cut off"):
        evaluate(case("a", "It waves."))
