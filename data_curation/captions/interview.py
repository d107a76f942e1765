"""Questions to a vision-language model about many clips at once; every answer is kept.

The answers are kept in the run's work folder one by one, so that a run that was stopped repeats
none of them, and a change of one question costs the answers to no other.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from data_curation.clip import Clip
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.options import check_fields, limited, option
from nemo_cosmos.services import (
    Endpoint,
    NoAnswerError,
    OpenAIClient,
    description_words,
    is_refusal,
    run_blocking,
    user_message,
)
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import decode

#: The environment variable that holds the endpoint's key.
KEY_VARIABLE = "NEMO_COSMOS_VLM_KEY"
#: What is added to a question that was refused, or answered without words.
REMINDER = "Describe only what can be seen in the frames, and answer with the description alone."
#: ``ask(frame numbers, question, most tokens)`` gives the model's words about a clip.
Ask = Callable[[NDArray[np.int64], str, int], Awaitable[str]]
#: Asks all that is to be known of a clip; gives what JSON can hold.
AnswerT = TypeVar("AnswerT")
Questions: TypeAlias = Callable[[Clip, Ask], Awaitable[AnswerT]]
#: Why there is no answer about a clip.
NoAnswer = NoAnswerError | VideoError


@dataclass(frozen=True)
class VisionModel:
    """Who is asked; the key is read from ``NEMO_COSMOS_VLM_KEY``.

    Attributes:
        url: URL of an OpenAI-compatible endpoint, up to and with ``/v1``; empty for no model.
        model: the model's name there; recorded with its answers.
        long_side_px: frames are scaled down to this longer side.
        concurrency: most requests at once.
        timeout_s: the seconds that one answer may take.
        max_tries: most attempts of one request.
        pause_s: before the second try; it doubles with each.

    Raises:
        ConfigError: a URL that is none or without a name, a name alone, or a number out of range.
    """

    url: str = option(
        "", "Endpoint that captions (OpenAI's API, with /v1); key in NEMO_COSMOS_VLM_KEY.",
        flag="--vlm-url",
    )  # fmt: skip
    model: str = option("", "Name of the model there.", flag="--vlm-model")
    long_side_px: int = limited(640, least=1, most=16384)
    concurrency: int = option(
        16, "Most requests at once.", flag="--vlm-concurrency", least=1, most=4096
    )
    timeout_s: float = option(
        120.0, "Seconds for one answer.", flag="--vlm-timeout-s", above=0, most=86400
    )
    max_tries: int = limited(6, least=1, most=1000)
    pause_s: float = limited(1.0, least=0, most=3600)

    def __post_init__(self) -> None:
        check_fields(self)
        place = urlsplit(self.url)
        if self.url and not (place.scheme in ("http", "https") and place.hostname):
            raise ConfigError(
                f"'{self.url}' is not the URL of an endpoint. Expected one such as "
                "http://localhost:8000/v1."
            )
        if bool(self.url) != bool(self.model):
            raise ConfigError(
                "Asking a model needs both its endpoint and its name; got the endpoint "
                f"'{self.url}' and the name '{self.model}'."
            )

    def endpoint(self) -> Endpoint:
        """Where it is served, and how patiently it is asked."""
        return Endpoint(
            self.url,
            self.model,
            KEY_VARIABLE,
            self.concurrency,
            self.timeout_s,
            self.max_tries,
            self.pause_s,
        )


def usable_words(text: str) -> str:
    """What a model says about a clip, on one line; empty where it says nothing or refuses."""
    words = " ".join(description_words(text).split())
    return "" if is_refusal(words) else words


class Interview:
    """Questions of one kind about clips.

    Args:
        model: the model to ask.
        store: holds the clips, and in its work folder the answers.
        topic: names the folder of the answers.
        asked: everything that decides the answer about a clip, but for the clip.
    """

    def __init__(
        self, model: VisionModel, store: ClipStore, topic: str, asked: Mapping[str, object]
    ) -> None:
        self._model, self._store, self._asked = model, store, dict(asked)
        self._answers = store.output / ".work" / topic

    def run(
        self, clips: Sequence[Clip], questions: Questions[AnswerT], advance: Callable[[], None]
    ) -> list[AnswerT | NoAnswer]:
        """The answer about each clip, in order; the error where the model or the file gives none.

        Raises:
            ServiceError: the endpoint gives no answers; those it gave are kept.
            ConfigError: the URL, the key or the name of the model is wrong.
        """
        return run_blocking(self._run(clips, questions, advance))

    async def _run(
        self, clips: Sequence[Clip], questions: Questions[AnswerT], advance: Callable[[], None]
    ) -> list[AnswerT | NoAnswer]:
        answers: dict[int, AnswerT | NoAnswer] = {}
        waiting = iter(range(len(clips)))
        client = OpenAIClient(self._model.endpoint())

        async def work() -> None:
            # Each worker takes the next clip, so that few clips are decoded at a time.
            for place in waiting:
                answers[place] = await self._answer(clips[place], questions, client)
                advance()

        async with client:
            await asyncio.gather(*(work() for _ in range(min(self._model.concurrency, len(clips)))))
        return [answers[place] for place in range(len(clips))]

    async def _answer(
        self, clip: Clip, questions: Questions[AnswerT], client: OpenAIClient
    ) -> AnswerT | NoAnswer:
        path = self._path(clip)
        if path.exists():  # an earlier run asked the same about the same frames
            return json.loads(path.read_text(encoding="utf-8"))

        async def ask(numbers: NDArray[np.int64], question: str, max_tokens: int) -> str:
            frames = await asyncio.to_thread(self._frames, clip, numbers)
            message = user_message(question, frames)
            answer = await client.chat([message], max_tokens=max_tokens)
            words = usable_words(answer.text)
            if not words:  # decoding is greedy: the same request would be refused again
                again = user_message(f"{question}\n{REMINDER}", frames)
                answer = await client.chat([again], max_tokens=max_tokens)
                words = usable_words(answer.text)
            if not words:
                said = " ".join(answer.text.split())[:200]
                raise NoAnswerError(
                    f"'{self._model.model}' gave no usable answer, asked twice: {said!r}."
                )
            return words

        try:
            answer = await questions(clip, ask)
        except (NoAnswerError, VideoError) as error:
            return error
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(answer), encoding="utf-8")
        return answer

    def _frames(self, clip: Clip, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        scale = min(1.0, self._model.long_side_px / max(clip.height, clip.width))
        size = max(1, round(clip.height * scale)), max(1, round(clip.width * scale))
        content = self._store.get(clip.clip_id, "mp4")
        return decode(content, frame_indices=numbers, size=size).frames_THWC

    def _path(self, clip: Clip) -> Path:
        content = json.dumps([clip.content_sha256, clip.fps, self._asked], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        return self._answers / digest[:2] / f"{digest[:32]}.json"
