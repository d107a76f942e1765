"""The judge of failures is shown the video, needs no prompt, and its answers are a rate."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nemo_cosmos.errors import ServiceError
from nemo_cosmos.evaluation import Case, choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.judges import vision
from nemo_cosmos.testing.chat_server import ChatServer, num_pictures, question_of


@pytest.fixture
def server(monkeypatch):
    server = ChatServer(lambda body: json.dumps({"reason": "A block appears.", "score": 1}))
    monkeypatch.setenv(vision.URL_VARIABLE, server.url)
    monkeypatch.setenv(vision.MODEL_VARIABLE, "a-judge")
    yield server
    server.close()


def evaluate(num: int = 2):
    cases = [Case(str(n), np.full((25, 16, 32, 3), 40 * n, np.uint8)) for n in range(num)]
    return evaluate_cases(cases, choose_metrics(["failure_judged"]))


def test_failures_are_a_share_with_reasons(server):
    answers = iter([0, 1])
    server.answer = lambda body: json.dumps({"reason": "Seen.", "score": next(answers)})
    result = evaluate()
    assert result.scores["failure_judged"].value == 0.5
    assert result.clips["0"].reasons == {"failure_judged": "Seen."}
    body = server.requests[0]
    assert num_pictures(body) == 12 and "These are 12 frames" in question_of(body)
    assert '{"reason": "...", "score": 0}' in question_of(body)


def test_another_score_is_an_error(server):
    server.answer = lambda body: json.dumps({"reason": "Very bad.", "score": 5})
    with pytest.raises(ServiceError, match="from 0 to 1"):
        evaluate(1)
