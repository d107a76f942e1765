"""The client against a real HTTP server: what is tried again, and whose fault a failure is."""

from __future__ import annotations

import asyncio
import base64
import time

import cv2
import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, ServiceError
from nemo_cosmos.services import (
    AnswerCutError,
    Endpoint,
    NoAnswerError,
    OpenAIClient,
    run_blocking,
    user_message,
)
from nemo_cosmos.testing.chat_server import ChatServer, words

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def server():
    server = ChatServer(lambda body: "fine\nindeed")
    yield server
    server.close()


async def chat(endpoint: Endpoint, **options):
    async with OpenAIClient(endpoint) as client:
        return await client.chat([user_message("How are you?")], max_tokens=8, **options)


def ask(url: str, *, schema=None, allow_cut=False, **patience):
    endpoint = Endpoint(url, "a-model", **{"pause_s": 0.01, "max_tries": 3, **patience})
    return run_blocking(chat(endpoint, schema=schema, allow_cut=allow_cut))


def test_the_request_is_greedy_and_the_answer_comes_as_it_is(server, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    answer = ask(server.url + "/", key_variable="A_KEY")
    assert (answer.text, answer.is_cut) == ("fine\nindeed", False)
    (body,) = server.requests
    assert body.pop("messages") == [{"role": "user", "content": "How are you?"}]
    assert body == {"model": "a-model", "max_tokens": 8, "temperature": 0, "seed": 0}
    assert server.keys == ["Bearer secret"]


def test_a_schema_is_sent_as_guided_decoding(server):
    ask(server.url, schema={"type": "object"})
    sent = server.requests[0]["response_format"]
    assert sent["type"] == "json_schema" and sent["json_schema"]["schema"] == {"type": "object"}


def test_a_completion_is_asked_without_a_chat(server):
    async def complete():
        async with OpenAIClient(Endpoint(server.url, "a-model")) as client:
            return await client.complete("Once upon", max_tokens=8)

    assert run_blocking(complete()).text == "fine\nindeed"
    assert server.paths == ["/v1/completions"] and server.requests[0]["prompt"] == "Once upon"


def test_frames_travel_as_jpeg_before_the_question():
    frames = np.full((2, 8, 16, 3), (250, 20, 20), np.uint8)
    *pictures, question = user_message("Which colour?", frames)["content"]
    assert question == {"type": "text", "text": "Which colour?"} and len(pictures) == 2
    data = pictures[0]["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (8, 16, 3)
    assert picture[..., 2].min() > 200 > picture[..., 0].max()  # red, in OpenCV's order


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: (429, b"slow down", {"retry-after": "0"}),
        lambda: (500, b"oops", {}),
        lambda: (200, b"<html>a proxy's error page", {}),
        lambda: (200, b'{"error": {"message": "overloaded"}}', {}),
        lambda: (200, b'{"choices": []}', {}),
        lambda: (200, b"[]", {}),
        lambda: None,
    ],
)
def test_the_servers_failures_are_tried_again_and_then_a_service_error(server, trouble):
    server.script = [trouble, trouble]
    assert ask(server.url).text == "fine\nindeed" and len(server.requests) == 3
    server.script = [trouble] * 3
    with pytest.raises(ServiceError, match=r"in 3 tries.*run the same command again"):
        ask(server.url)


def test_a_model_without_words_is_asked_again_and_then_has_no_answer(server):
    server.script = [lambda: words("  ")] * 3
    with pytest.raises(NoAnswerError, match="without words, 3 times"):
        ask(server.url)


def test_a_cut_answer_is_not_asked_for_again(server):
    server.script = [lambda: words("a lot of", finish="length")] * 2
    with pytest.raises(AnswerCutError, match="cut off at 8 tokens") as caught:
        ask(server.url)
    assert caught.value.text == "a lot of" and len(server.requests) == 1
    answer = ask(server.url, allow_cut=True)
    assert answer.is_cut and answer.text == "a lot of"


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_request_that_is_not_taken_is_its_own_fault(server, status):
    server.script = [lambda: (status, b"too long", {})]
    with pytest.raises(NoAnswerError, match="too long"):
        ask(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_wrong_settings_are_an_error_at_once(server, status):
    server.script = [lambda: (status, b"no", {})]
    with pytest.raises(ConfigError, match=rf"status {status}.*A_KEY"):
        ask(server.url, key_variable="A_KEY")
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["no url", "ftp://x", ""])
def test_what_is_no_url_is_an_error_at_once(url):
    with pytest.raises(ConfigError, match="not the URL"):
        ask(url)


def test_the_time_limit_is_of_the_whole_answer(server):
    server.delay_s = 0.5
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"no answer within 0.1 s"):
        ask(server.url, timeout_s=0.1, max_tries=2)
    assert time.monotonic() - started < 5


def test_a_pause_that_the_server_names_is_kept(server):
    server.script = [lambda: (429, b"", {"retry-after": "0.3"})]
    started = time.monotonic()
    ask(server.url, pause_s=0.0)
    assert time.monotonic() - started >= 0.3


def test_a_server_on_this_machine_is_asked_past_the_proxy(server, monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    # Nothing listens on port 9: a request through this proxy would fail.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(server.url, max_tries=1).text == "fine\nindeed"


def test_another_machine_is_asked_through_the_proxy(server, monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    with pytest.raises(ConfigError, match="status 404"):  # the test's server is no proxy
        ask("http://models.example/v1")
    assert server.paths == ["http://models.example/v1/chat/completions"]


def test_a_proxy_that_cannot_be_used_is_an_error(monkeypatch):
    monkeypatch.delenv("http_proxy", raising=False)  # would come first
    monkeypatch.setenv("HTTP_PROXY", "gopher://127.0.0.1:9")
    with pytest.raises(ConfigError, match="HTTP_PROXY"):
        ask("http://models.example/v1")


def test_requests_run_side_by_side_up_to_the_bound(server):
    server.delay_s = 0.1

    async def many():
        async with OpenAIClient(Endpoint(server.url, "m", concurrency=2)) as client:
            message = user_message("How are you?")
            await asyncio.gather(*(client.chat([message], max_tokens=8) for _ in range(6)))

    run_blocking(many())
    assert server.most_at_once == 2 and len(server.requests) == 6


def test_work_can_be_run_inside_a_running_event_loop(server):
    async def notebook():
        return ask(server.url)

    assert asyncio.run(notebook()).text == "fine\nindeed"
