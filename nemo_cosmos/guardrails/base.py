"""The contract of a guard, its verdict, and the one function that asks it.

A guard looks at a prompt or a video and returns a :class:`Verdict`. Asking goes through
:func:`ask`, which fails closed: an exception, a time-out, a missing model or an answer that is not
a verdict counts as *not allowed*, with the reason.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from nemo_cosmos.errors import GuardrailError

GuardKind = Literal["prompt", "video", "filter"]

#: Categories of verdicts that are not about the content.
SAFE, DISABLED, FAILURE, INVALID = "safe", "disabled", "guard_failure", "invalid_input"


@dataclass(frozen=True)
class Verdict:
    """The answer of one guard.

    Attributes:
        allowed: whether the prompt or video may pass.
        guard: name of the guard that answered.
        category: ``safe``, ``disabled``, ``guard_failure``, ``invalid_input``, or the category of
            harm that was found (``violence``, ``sexual``, ...).
        reason: one sentence for people.
        measures: what the guard counted, by name; further fields of its JSON object.
    """

    allowed: bool
    guard: str
    category: str
    reason: str
    measures: Mapping[str, float] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, bool | str | float]:
        """Return the fields as a JSON object."""
        return {
            "allowed": self.allowed,
            "guard": self.guard,
            "category": self.category,
            "reason": self.reason,
            **self.measures,
        }


class RefusedError(GuardrailError):
    """At least one guard refused; ``verdicts`` holds the answers of all guards that were asked."""

    def __init__(self, message: str, verdicts: list[Verdict]) -> None:
        refusals = [verdict for verdict in verdicts if not verdict.allowed]
        super().__init__(message, [(refusal.guard, refusal.category) for refusal in refusals])
        self.verdicts = verdicts


@runtime_checkable
class Guard(Protocol):
    """A guard that judges and changes nothing.

    Attributes:
        name: unique, lower case; what ``--disable-guard`` takes.
        kind: ``"prompt"`` (``check`` takes the text), ``"video"`` (``check`` takes the frames,
            ``uint8 (T,H,W,3)`` RGB) or ``"filter"`` (see :class:`VideoFilter`).

    A video guard may set an attribute ``frames_per_s``, the number of frames that it needs per
    second. It is then given no more, but always the first and the last frame.
    """

    name: str
    kind: GuardKind

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge a prompt or a video; may raise, which counts as a refusal."""
        ...


@runtime_checkable
class VideoFilter(Protocol):
    """A guard that makes a video safe instead of refusing it, such as the face blur."""

    name: str
    kind: GuardKind

    def apply(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, Verdict]:
        """Return a safe copy of the frames (same shape and type) and a verdict."""
        ...


def frames_to_judge(num_frames: int, fps: float | None, frames_per_s: float | None) -> list[int]:
    """Return the numbers of the frames that a guard is given.

    Args:
        num_frames: the video's number of frames.
        fps: the video's frame rate; unless it is positive, every frame is judged.
        frames_per_s: frames per second that the guard needs; None for every frame.

    Returns:
        Frames at most ``1 / frames_per_s`` apart, where the video has that many.
    """
    known = fps is not None and math.isfinite(fps) and fps > 0
    step = max(1, int(fps / frames_per_s)) if known and frames_per_s and fps else 1
    return sorted({*range(0, num_frames, step), num_frames - 1})


class BrokenGuard:
    """Takes the place of a guard that could not be built, and refuses everything."""

    def __init__(self, name: str, kind: GuardKind, error: BaseException) -> None:
        self.name = name
        self.kind = kind
        self._reason = f"the guard could not be loaded: {type(error).__name__}: {error}"

    def check(self, x: str | np.ndarray) -> Verdict:
        """Refuse."""
        return Verdict(False, self.name, FAILURE, self._reason)

    def apply(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, Verdict]:
        """Refuse."""
        return frames_THWC, Verdict(False, self.name, FAILURE, self._reason)


def ask(name: str, question: Callable[[], Verdict], timeout_s: float) -> Verdict:
    """Ask one guard; whatever goes wrong is a refusal.

    Args:
        name: the guard's name, for the verdict.
        question: calls the guard.
        timeout_s: seconds to wait for the answer. Python cannot stop a running thread: a guard that
            hangs keeps its (daemon) thread, and its late answer is ignored.
    """
    answers: list[Verdict] = []

    def run() -> None:
        try:
            answers.append(_as_verdict(name, question()))
        except BaseException as error:  # noqa: BLE001  failing closed: any error is a refusal
            why = " ".join(f"{type(error).__name__}: {error}".split())  # a verdict is one line
            answers.append(Verdict(False, name, FAILURE, f"the guard failed: {why}"))

    thread = threading.Thread(target=run, name=f"guard-{name}", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        return Verdict(False, name, FAILURE, f"the guard gave no answer within {timeout_s:g} s")
    return answers[0]


def _as_verdict(name: str, answer: object) -> Verdict:
    """Return the answer if it is a complete verdict; anything else is a refusal."""
    if isinstance(answer, Verdict) and isinstance(answer.allowed, bool):
        return answer
    return Verdict(False, name, FAILURE, f"the guard answered {answer!r:.80} instead of a verdict")


def video_problem(frames_THWC: object) -> str | None:
    """Return why these frames cannot be judged: they must be uint8 ``(T,H,W,3)``, not empty."""
    if not isinstance(frames_THWC, np.ndarray):
        return f"the video is a {type(frames_THWC).__name__}, not a numpy array"
    if frames_THWC.dtype.kind == "f" and not np.isfinite(frames_THWC).all():
        return "the video has NaN or infinite values"
    if frames_THWC.dtype != np.uint8:
        return f"the video has type {frames_THWC.dtype}, expected uint8"
    if frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3:
        return f"the video has shape {frames_THWC.shape}, expected (frames, height, width, 3)"
    if 0 in frames_THWC.shape:
        return f"the video is empty: shape {frames_THWC.shape}"
    return None
