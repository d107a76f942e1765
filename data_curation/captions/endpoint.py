"""Ask a vision-language model behind an OpenAI-compatible endpoint (vLLM, NIM).

Requests run side by side, at most so many at once. What may pass (429, 5xx, a time-out, a broken
connection, an answer that is none) is tried again after a growing pause, or after the one that the
server names; then it is an error. What will not pass (a wrong key, an unknown model) ends the run
at once, and a request that the server calls bad is the clip's fault.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError, InputError, ServiceError

if TYPE_CHECKING:
    import httpx

KEY_VARIABLE = "NEMO_COSMOS_VLM_KEY"
MAX_PAUSE_S = 60.0
_JPEG_QUALITY = 90
#: The server says that this very request is wrong: too long, or pictures that it does not take.
_BAD_REQUEST = (400, 413, 415, 422)


class CaptionRefusedError(InputError):
    """The model gave no caption for a clip, and asking again would not help."""


class _PassingError(Exception):
    """What may pass; holds the pause that the server asks for, in seconds."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class VisionEndpoint:
    """A model that looks at frames and answers in words.

    Use it as an asynchronous context manager.

    Args:
        url: up to and with ``/v1``.
        model: its name there.
        concurrency: most requests at once.
        timeout_s: for one answer.
        max_tries: of one request.
        pause_s: before the second try; it doubles with each.
    """

    def __init__(
        self,
        url: str,
        model: str,
        concurrency: int = 16,
        timeout_s: float = 120.0,
        max_tries: int = 6,
        pause_s: float = 1.0,
    ) -> None:
        import httpx

        key = os.environ.get(KEY_VARIABLE)
        self._url, self._model = url.rstrip("/"), model
        self._max_tries, self._pause_s = max_tries, pause_s
        self._slots = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=concurrency),
        )

    async def __aenter__(self) -> VisionEndpoint:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, frames_THWC: NDArray[np.uint8], question: str, max_tokens: int) -> str:
        """The model's answer to a question about some frames.

        Raises:
            CaptionRefusedError: it takes no such request, or gives no words after all tries.
            ServiceError: the server could not be reached or failed in all tries.
            ConfigError: the URL, the key or the name of the model is wrong.
        """
        body = {
            "model": self._model,
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 0,
            "messages": [{"role": "user", "content": message_content(frames_THWC, question)}],
        }
        async with self._slots:
            return await self._persist(body)

    async def _persist(self, body: dict[str, Any]) -> str:
        reason = ""
        for attempt in range(self._max_tries):
            try:
                return await self._post(body)
            except _PassingError as passing:
                reason = str(passing)
                wait_s = min(MAX_PAUSE_S, self._pause_s * 2**attempt)
                # Spread out, so that all waiting requests do not come back at the same moment.
                wait_s = max(passing.pause_s or 0.0, wait_s * random.uniform(0.5, 1.0))
                if attempt + 1 < self._max_tries:
                    await asyncio.sleep(min(MAX_PAUSE_S, wait_s))
        if reason.startswith("an answer"):
            raise CaptionRefusedError(f"'{self._model}' gave {reason}, {self._max_tries} times.")
        raise ServiceError(
            f"The endpoint '{self._url}' gave no answer in {self._max_tries} tries: {reason}. The "
            "captions that it gave before are kept: see that the server runs, and run the same "
            "command again."
        )

    async def _post(self, body: dict[str, Any]) -> str:
        import httpx

        try:
            response = await self._client.post(f"{self._url}/chat/completions", json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigError(
                f"'{self._url}' is not the URL of an endpoint: {error}. Expected one such as "
                "http://localhost:8000/v1."
            ) from error
        except httpx.HTTPError as error:
            raise _PassingError(f"{type(error).__name__} {error}".strip()) from error
        if response.status_code == 429 or response.status_code >= 500:
            pause_s = _pause_of(response)
            raise _PassingError(f"status {response.status_code}", pause_s)
        if response.status_code in _BAD_REQUEST:
            raise CaptionRefusedError(
                f"'{self._model}' does not take the request (status {response.status_code}): "
                f"{response.text[:200]}"
            )
        if response.status_code != 200:
            raise ConfigError(
                f"The endpoint '{self._url}' answered with status {response.status_code}: "
                f"{response.text[:200]!r}. Check the URL (with '/v1'), the model's name "
                f"'{self._model}' and the key in {KEY_VARIABLE}."
            )
        return _words_of(response)


def message_content(frames_THWC: NDArray[np.uint8], question: str) -> list[dict[str, Any]]:
    """Frames as JPEG pictures in order, then the question."""
    pictures = [
        {"type": "image_url", "image_url": {"url": _data_url(frame)}} for frame in frames_THWC
    ]
    return [*pictures, {"type": "text", "text": question}]


def _data_url(frame_HWC: NDArray[np.uint8]) -> str:
    bgr = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    options: Sequence[int] = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
    jpeg = cv2.imencode(".jpg", bgr, options)[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _pause_of(response: httpx.Response) -> float | None:
    """Seconds of the header Retry-After, where there is one that is a number."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _words_of(response: httpx.Response) -> str:
    """The answer's words, on one line; one that was cut off is none."""
    try:
        choice = response.json()["choices"][0]
        words = choice["message"]["content"]
        finish = choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _PassingError(
            f"an answer that is not in the format ({response.text[:80]!r})"
        ) from error
    if not isinstance(words, str) or not words.strip():
        raise _PassingError("an answer without words")
    if finish == "length":
        raise _PassingError("an answer that was cut off at the most tokens")
    return " ".join(words.split())
