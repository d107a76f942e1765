"""The client of OpenAI-compatible endpoints: vLLM, NIM, llama.cpp, and hosted models.

Requests run side by side up to a bound. What happens to one that fails depends on whose fault it
is:

- The server's (429, 5xx, a time-out, a broken connection, an error page with status 200): it is
  sent again after a growing pause, or after the pause that the server names. When all tries have
  failed: :class:`ServiceError`.
- The settings' (a wrong URL, key or model): :class:`ConfigError` at once.
- The request's (too long, a picture that the model does not take): :class:`NoAnswerError` at once.
- The model's: an answer without words is asked for again, then it is a :class:`NoAnswerError`. An
  answer that was cut off at ``max_tokens`` is not asked for again, because the same request would
  be cut off at the same token: :class:`AnswerCutError`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from nemo_cosmos.errors import ConfigError, InputError, ServiceError
from nemo_cosmos.services.addresses import is_on_this_machine
from nemo_cosmos.services.messages import Message

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
JsonObject = Mapping[str, object]

#: Longest pause between two tries, whatever the server asks for.
MAX_PAUSE_S = 60.0
#: A server that does not even accept the connection within this time is down.
CONNECT_TIMEOUT_S = 10.0
#: Statuses that say that this very request is wrong: too long, or of a kind that is not taken.
_BAD_REQUEST = (400, 413, 415, 422)
#: Statuses that may pass, besides every 5xx: time-out, too early, too many requests.
_PASSING = (408, 425, 429)


class NoAnswerError(InputError):
    """The model gives no usable answer to this request, and asking again would not help."""


class AnswerCutError(NoAnswerError):
    """The answer was cut off at ``max_tokens``; ``text`` is what there is of it."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class _FailedTryError(Exception):
    """One try failed, and another may succeed.

    Attributes:
        is_models_fault: whether the server works, but the model gave no words.
        pause_s: the pause that the server asks for.
    """

    def __init__(
        self, reason: str, is_models_fault: bool = False, pause_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.is_models_fault, self.pause_s = is_models_fault, pause_s


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served, and how patiently it is asked.

    Attributes:
        url: the base URL, up to and including ``/v1``.
        model: the model's name at the endpoint.
        key_variable: the environment variable that holds the key; without it no key is sent.
        concurrency: the largest number of requests at once.
        timeout_s: the time limit of one answer, from sending the request to its last byte.
        max_tries: the number of tries of one request.
        pause_s: the pause before the second try; it doubles with each further one.
    """

    url: str
    model: str
    key_variable: str | None = None
    concurrency: int = 16
    timeout_s: float = 120.0
    max_tries: int = 6
    pause_s: float = 1.0

    @property
    def base_url(self) -> str:
        """The URL without a slash at its end."""
        return self.url.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, which no proxy can reach for us."""
        return is_on_this_machine(self.url)


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        text: its words, as they came.
        is_cut: whether they end at ``max_tokens`` and not where the model would have ended.
    """

    text: str
    is_cut: bool = False


class OpenAIClient:
    """Asks the model of one endpoint. Use it as an asynchronous context manager.

    Args:
        endpoint: where the model is served.

    Raises:
        ConfigError: the proxy settings of the environment cannot be used.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._http = _open_http(endpoint)

    async def __aenter__(self) -> OpenAIClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        schema: JsonObject | None = None,
        allow_cut: bool = False,
    ) -> Answer:
        """The model's next turn in a chat, decoded greedily.

        Args:
            messages: the turns so far.
            max_tokens: the largest number of tokens of the answer.
            schema: a JSON schema that the answer must follow, for servers with guided decoding.
            allow_cut: whether an answer that was cut off is returned instead of an error.

        Raises:
            NoAnswerError: the endpoint does not take the request, or the model gives no words.
            AnswerCutError: the answer was cut off, and that is not allowed.
            ServiceError: the server could not be reached or failed in all tries.
            ConfigError: the URL, the key or the model's name is wrong.
        """
        body: dict[str, object] = {"messages": list(messages)}
        if schema is not None:
            described = {"name": "answer", "schema": dict(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        return await self._ask("chat/completions", body, max_tokens, allow_cut)

    async def complete(self, prompt: str, *, max_tokens: int, allow_cut: bool = False) -> Answer:
        """The continuation of a text without a chat template, decoded greedily.

        Args:
            prompt: the text.
            max_tokens: the largest number of tokens of the answer.
            allow_cut: whether an answer that was cut off is returned instead of an error.

        Raises:
            NoAnswerError: and the other errors of :meth:`chat`.
        """
        return await self._ask("completions", {"prompt": prompt}, max_tokens, allow_cut)

    async def _ask(
        self, path: str, body: dict[str, object], max_tokens: int, allow_cut: bool
    ) -> Answer:
        # Temperature and seed make the answer repeatable, as far as the server can.
        fixed = {
            "model": self.endpoint.model,
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 0,
        }
        async with self._slots:
            answer = await self._persist(path, {**fixed, **body})
        if answer.is_cut and not allow_cut:
            raise AnswerCutError(
                f"'{self.endpoint.model}' gave an answer that was cut off at {max_tokens} tokens. "
                "Allow more tokens, or ask for less.",
                answer.text,
            )
        return answer

    async def _persist(self, path: str, body: JsonObject) -> Answer:
        endpoint, failure = self.endpoint, _FailedTryError("no try was made")
        for attempt in range(endpoint.max_tries):
            if attempt > 0:
                await asyncio.sleep(_pause_s(endpoint.pause_s * 2 ** (attempt - 1), failure))
            try:
                return await self._post(path, body)
            except _FailedTryError as error:
                failure = error
        if failure.is_models_fault:
            raise NoAnswerError(f"'{endpoint.model}' gave {failure}, {endpoint.max_tries} times.")
        raise ServiceError(
            f"The endpoint '{endpoint.base_url}' gave no answer in {endpoint.max_tries} tries; the "
            f"last time: {failure}. Check that the server runs, then run the same command again."
        )

    async def _post(self, path: str, body: JsonObject) -> Answer:
        import httpx

        try:
            # httpx limits each read alone; a server that sends a byte now and then would never end.
            async with asyncio.timeout(self.endpoint.timeout_s):
                response = await self._http.post(f"{self.endpoint.base_url}/{path}", json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigError(
                f"'{self.endpoint.url}' is not the URL of an endpoint: {error}. Expected one such "
                "as http://localhost:8000/v1."
            ) from error
        except TimeoutError as error:
            reason = f"no answer within {self.endpoint.timeout_s:g} s"
            raise _FailedTryError(reason) from error
        except httpx.HTTPError as error:
            raise _FailedTryError(f"{type(error).__name__} {error}".strip()) from error
        self._check_status(response)
        return _answer_of(response)

    def _check_status(self, response: httpx.Response) -> None:
        status, endpoint = response.status_code, self.endpoint
        if status == 200:
            return
        said = response.text[:200]
        if status in _PASSING or status >= 500:
            raise _FailedTryError(f"status {status}: {said!r}", pause_s=_asked_pause_s(response))
        if status in _BAD_REQUEST:
            raise NoAnswerError(
                f"'{endpoint.model}' does not take the request (status {status}): {said}"
            )
        key = f" and the key in {endpoint.key_variable}" if endpoint.key_variable else ""
        raise ConfigError(
            f"The endpoint '{endpoint.base_url}' answered with status {status}: {said!r}. Check "
            f"the URL (with '/v1'), the model's name '{endpoint.model}'{key}."
        )


def run_blocking(work: Coroutine[object, object, T]) -> T:
    """Run asynchronous work to its end, also where the caller's thread has an event loop.

    Args:
        work: the coroutine.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    # A notebook runs a loop in its main thread, and two loops cannot share a thread.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def _open_http(endpoint: Endpoint) -> httpx.AsyncClient:
    import httpx

    key = os.environ.get(endpoint.key_variable) if endpoint.key_variable else None
    try:
        return httpx.AsyncClient(
            timeout=httpx.Timeout(
                endpoint.timeout_s, connect=min(CONNECT_TIMEOUT_S, endpoint.timeout_s)
            ),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=endpoint.concurrency),
            # The environment's proxies (HTTP_PROXY and the like) hold for other machines only.
            trust_env=not endpoint.is_local,
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise ConfigError(
            f"The proxy that the environment names cannot be used for '{endpoint.url}': {error}. "
            "Correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or add the host to NO_PROXY."
        ) from error


def _answer_of(response: httpx.Response) -> Answer:
    """Read the answer of a response with status 200, which may still be an error page."""
    try:
        body = response.json()
    except ValueError as error:
        raise _FailedTryError(f"a page that is not JSON: {response.text[:80]!r}") from error
    if isinstance(body, dict) and body.get("error"):
        raise _FailedTryError(f"an error with status 200: {str(body['error'])[:200]}")
    try:
        choice = body["choices"][0]
        # A chat answers with a message, a completion with bare text.
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        finish: Literal["stop", "length"] | None = choice.get("finish_reason")
    except (LookupError, TypeError, AttributeError) as error:
        raise _FailedTryError(f"JSON of another format: {response.text[:80]!r}") from error
    if not isinstance(text, str) or not text.strip():
        raise _FailedTryError("an answer without words", is_models_fault=True)
    return Answer(text, is_cut=finish == "length")


def _pause_s(usual_s: float, failure: _FailedTryError) -> float:
    """Seconds to wait before the next try."""
    # Spread out, so that all waiting requests do not come back at the same moment.
    spread_s = min(MAX_PAUSE_S, usual_s) * random.uniform(0.5, 1.0)
    return min(MAX_PAUSE_S, max(failure.pause_s or 0.0, spread_s))


def _asked_pause_s(response: httpx.Response) -> float | None:
    """Seconds of the header Retry-After, if there is one and it is a number."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
