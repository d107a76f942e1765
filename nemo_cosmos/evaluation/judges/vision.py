"""Ask a vision-language model at an endpoint about videos, and read its score and its reason.

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
from dataclasses import dataclass

import numpy as np

from nemo_cosmos.errors import ConfigError, ServiceError
from nemo_cosmos.evaluation.metric import Case, Features, Judgement
from nemo_cosmos.services import Endpoint, OpenAIClient, answer_words, run_blocking, user_message
from nemo_cosmos.video import resize_longest_side

URL_VARIABLE = "NEMO_COSMOS_JUDGE_URL"
MODEL_VARIABLE = "NEMO_COSMOS_JUDGE_MODEL"
KEY_VARIABLE = "NEMO_COSMOS_JUDGE_KEY"
LONG_SIDE_PX, MAX_TOKENS = 512, 1024


@dataclass(frozen=True)
class Question:
    """What a judge is asked of each video.

    Attributes:
        metric: the metric's name, for messages.
        text: the question, with ``{num_frames}`` and ``{prompt}``.
        lowest: the lowest score.
        highest: the highest score.
        num_frames: frames that are shown, evenly spread.
    """

    metric: str
    text: str
    lowest: int
    highest: int
    num_frames: int = 8

    @property
    def schema(self) -> dict[str, object]:
        """The form of the answer, for endpoints that enforce one."""
        return {
            "type": "object",
            "properties": {
                "reason": {"type": "string"},
                "score": {"type": "integer", "minimum": self.lowest, "maximum": self.highest},
            },
            "required": ["reason", "score"],
            "additionalProperties": False,
        }

    def ask(self, cases: Sequence[Case]) -> list[Judgement]:
        """A judgement of each case, by the model that the environment names.

        Raises:
            ConfigError: the environment names no endpoint or model, or a wrong one.
            ServiceError: the endpoint gives no answer, or none in the format that was asked for.
            NoAnswerError: the model does not take the request.
        """
        return run_blocking(self._ask_all(cases, judge_endpoint(self.metric)))

    def describe(self) -> Features:
        """The model that is asked."""
        return Features("vision-language model", judge_endpoint(self.metric).model)

    def read(self, text: str) -> Judgement:
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
                f"The judge answered {text[:200]!r}, expected JSON with 'reason' and 'score'. "
                "Serve the model with guided decoding (vLLM and NIM have it), or choose another "
                "judge."
            ) from error
        is_number = isinstance(score, int) and not isinstance(score, bool)
        if not is_number or not self.lowest <= score <= self.highest or not isinstance(reason, str):
            raise ServiceError(
                f"The judge gave the score {score!r}, expected a whole number from {self.lowest} "
                f"to {self.highest} and a reason in words. Serve the model with guided decoding, "
                "or choose another judge."
            )
        return Judgement(float(score), reason)

    async def _ask_all(self, cases: Sequence[Case], endpoint: Endpoint) -> list[Judgement]:
        async with OpenAIClient(endpoint) as client:
            return await asyncio.gather(*(self._ask_one(case, client) for case in cases))

    async def _ask_one(self, case: Case, client: OpenAIClient) -> Judgement:
        last = len(case.generated_THWC) - 1
        numbers = np.linspace(0, last, self.num_frames).round().astype(int)
        # A video that is shorter than what is asked for repeats numbers; a small one is not
        # enlarged.
        shown_THWC = case.generated_THWC[np.unique(numbers)]
        side_px = min(LONG_SIDE_PX, max(shown_THWC.shape[1:3]))
        frames_THWC = resize_longest_side(shown_THWC, side_px)
        question = self.text.format(num_frames=len(frames_THWC), prompt=case.prompt)
        message = user_message(question, frames_THWC)
        answer = await client.chat([message], max_tokens=MAX_TOKENS, schema=self.schema)
        return self.read(answer.text)


def judge_endpoint(metric: str) -> Endpoint:
    """The endpoint that the environment names.

    Args:
        metric: the metric that asks, for the message.

    Raises:
        ConfigError: it names none.
    """
    url, model = os.environ.get(URL_VARIABLE), os.environ.get(MODEL_VARIABLE)
    if not url or not model:
        missing = URL_VARIABLE if not url else MODEL_VARIABLE
        raise ConfigError(
            f"The metric '{metric}' asks a vision-language model, but {missing} is not set. Set "
            f"{URL_VARIABLE} to an OpenAI-compatible endpoint such as http://localhost:8000/v1 "
            f"and {MODEL_VARIABLE} to the model's name there."
        )
    return Endpoint(url, model, KEY_VARIABLE)
