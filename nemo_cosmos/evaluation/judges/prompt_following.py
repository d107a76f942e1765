"""Does the video show what its prompt says? A vision-language model is asked, at an endpoint.

::

    NEMO_COSMOS_JUDGE_URL    an OpenAI-compatible endpoint such as http://localhost:8000/v1
    NEMO_COSMOS_JUDGE_MODEL  the model's name at the endpoint
    NEMO_COSMOS_JUDGE_KEY    its key, where it wants one
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

import numpy as np

from nemo_cosmos.errors import ConfigError, ServiceError
from nemo_cosmos.evaluation.metric import Case, Features, Judgement, JudgeMetric
from nemo_cosmos.services import Endpoint, OpenAIClient, answer_words, run_blocking, user_message
from nemo_cosmos.video import resize_longest_side

URL_VARIABLE = "NEMO_COSMOS_JUDGE_URL"
MODEL_VARIABLE = "NEMO_COSMOS_JUDGE_MODEL"
KEY_VARIABLE = "NEMO_COSMOS_JUDGE_KEY"
NUM_FRAMES, LONG_SIDE_PX, MAX_TOKENS = 8, 512, 1024
MIN_SCORE, MAX_SCORE = 1, 5
SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "score": {"type": "integer", "minimum": MIN_SCORE, "maximum": MAX_SCORE},
    },
    "required": ["reason", "score"],
    "additionalProperties": False,
}
QUESTION = (
    "These are {num_frames} frames of one video, in order. It was generated from this text:\n"
    "<text>{prompt}</text>\n"
    "How well does the video show what the text says? Look at the objects, at what happens to them "
    "and at the order of events; do not judge the quality of the pictures. First write your reason "
    "in one or two sentences, then a score: 1 shows something else, 2 shows a part, 3 shows the "
    "objects but not what happens, 4 shows nearly everything, 5 shows everything. Answer with JSON "
    'alone: {{"reason": "...", "score": 1}}'
)


def judge_prompts(cases: Sequence[Case]) -> list[Judgement]:
    """A judgement of each case, by the model that the environment names.

    Raises:
        ConfigError: the environment names no endpoint or model, or a wrong one.
        ServiceError: the endpoint gives no answer, or none in the format that was asked for.
        NoAnswerError: the model does not take the request.
    """
    return run_blocking(_judge_all(cases, judge_endpoint()))


def judge_endpoint() -> Endpoint:
    """The endpoint that the environment names.

    Raises:
        ConfigError: it names none.
    """
    url, model = os.environ.get(URL_VARIABLE), os.environ.get(MODEL_VARIABLE)
    if not url or not model:
        missing = URL_VARIABLE if not url else MODEL_VARIABLE
        raise ConfigError(
            f"The metric 'prompt_following' asks a vision-language model, but {missing} is not "
            f"set. Set {URL_VARIABLE} to an OpenAI-compatible endpoint such as "
            f"http://localhost:8000/v1 and {MODEL_VARIABLE} to the model's name there."
        )
    return Endpoint(url, model, KEY_VARIABLE)


def read_judgement(text: str) -> Judgement:
    """The judgement in an answer; words around the JSON object are passed over.

    Raises:
        ServiceError: the answer contains no such object, or its score is out of range.
    """
    words = answer_words(text)
    try:
        found = json.loads(words[words.index("{") : words.rindex("}") + 1])
        score, reason = found["score"], found["reason"]
    except (ValueError, LookupError, TypeError) as error:
        raise ServiceError(
            f"The judge answered {text[:200]!r}, expected JSON with 'reason' and 'score'. Serve "
            "the model with guided decoding (vLLM and NIM have it), or choose another judge."
        ) from error
    is_number = isinstance(score, int) and not isinstance(score, bool)
    if not is_number or not MIN_SCORE <= score <= MAX_SCORE or not isinstance(reason, str):
        raise ServiceError(
            f"The judge gave the score {score!r}, expected a whole number from {MIN_SCORE} to "
            f"{MAX_SCORE} and a reason in words. Serve the model with guided decoding, or choose "
            "another judge."
        )
    return Judgement(float(score), reason)


async def _judge_all(cases: Sequence[Case], endpoint: Endpoint) -> list[Judgement]:
    async with OpenAIClient(endpoint) as client:
        return await asyncio.gather(*(_judge(case, client) for case in cases))


async def _judge(case: Case, client: OpenAIClient) -> Judgement:
    numbers = np.linspace(0, len(case.generated_THWC) - 1, NUM_FRAMES).round().astype(int)
    # A video that is shorter than what is asked for repeats numbers; a small one is not enlarged.
    shown_THWC = case.generated_THWC[np.unique(numbers)]
    frames_THWC = resize_longest_side(shown_THWC, min(LONG_SIDE_PX, max(shown_THWC.shape[1:3])))
    question = QUESTION.format(num_frames=len(frames_THWC), prompt=case.prompt)
    message = user_message(question, frames_THWC)
    answer = await client.chat([message], max_tokens=MAX_TOKENS, schema=SCHEMA)
    return read_judgement(answer.text)


PROMPT_FOLLOWING = JudgeMetric(
    name="prompt_following",
    unit=f"of {MAX_SCORE}",
    higher_is_better=True,
    description="how well the video shows what its prompt says, by a vision-language model",
    describe_features=lambda: Features("vision-language model", judge_endpoint().model),
    judge=judge_prompts,
)
