"""The guards that every prompt and every video pass, and what happens when one refuses.

::

    policy = GuardPolicy.default()
    policy.check_prompt("a robot arm picks up a red block")   # raises RefusedError when refused
    frames_THWC, verdicts = policy.check_video(frames_THWC)   # a safe copy, faces pixelated

A guard is turned off only by its name, ``GuardPolicy.default(disabled=["face_blur"])``. That is a
verdict too: it is in the audit log and in the video's provenance.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np

from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE, AuditLog
from nemo_cosmos.guardrails.base import (
    DISABLED,
    FAILURE,
    INVALID,
    SAFE,
    Guard,
    RefusedError,
    Verdict,
    VideoFilter,
    ask,
    frames_to_judge,
    video_problem,
)
from nemo_cosmos.guardrails.metrics import observe
from nemo_cosmos.guardrails.registry import (
    BUILTIN_GUARDS,
    build_guard,
    default_guards,
    guard_names,
    unknown_guard,
)
from nemo_cosmos.guardrails.settings import GuardSettings
from nemo_cosmos.provenance.hashes import array_sha256, text_sha256

DEFAULT_TIMEOUT_S = 300.0

Door = Literal["prompt", "video"]


class GuardPolicy:
    """The guards that every prompt and every video pass.

    Args:
        guards: prompt guards, video guards and filters, in the order in which they are asked.
        disabled: names of guards that are not asked; an unknown name is an error.
        audit: the log of all verdicts; by default the user's.
        timeout_s: seconds within which each guard must answer.
        record_text: whether the audit log holds the prompts themselves, not only their hashes.

    Raises:
        ConfigError: ``disabled`` names a guard that does not exist.
    """

    def __init__(
        self,
        guards: Sequence[Guard | VideoFilter],
        disabled: Iterable[str] = (),
        audit: AuditLog | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        record_text: bool = False,
    ) -> None:
        self.disabled = frozenset(disabled)
        self.guards = [guard for guard in guards if guard.name not in self.disabled]
        self.audit = audit if audit is not None else AuditLog()
        self.timeout_s = timeout_s
        self.record_text = record_text
        self._kinds = {guard.name: guard.kind for guard in guards}
        for name in sorted(self.disabled - {*self._kinds, *guard_names()}):
            raise unknown_guard(name)

    @classmethod
    def default(
        cls,
        disabled: Iterable[str] = (),
        audit_path: str | os.PathLike[str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        enabled: Iterable[str] = (),
        record_text: bool = False,
        settings: GuardSettings | None = None,
    ) -> GuardPolicy:
        """Build the guards that are active by default, and those in ``enabled``.

        Args:
            disabled: names of guards that are not asked, whether active by default or enabled.
            audit_path: the audit log; by default the user's.
            timeout_s: seconds within which each guard must answer.
            enabled: names of guards that are off by default, such as ``qwen3guard``.
            record_text: whether the audit log holds the prompts themselves, not only their hashes.
            settings: where the guards' models are; by default what the environment names.

        Raises:
            ConfigError: a name is not known.
        """
        disabled = frozenset(disabled)
        names = dict.fromkeys([*default_guards(), *enabled])
        guards = [build_guard(name, settings) for name in names if name not in disabled]
        return cls(guards, disabled, AuditLog(audit_path), timeout_s, record_text)

    def check_prompt(
        self, prompt: str, context: Mapping[str, object] | None = None
    ) -> list[Verdict]:
        """Ask every prompt guard.

        Args:
            prompt: the text; an empty one is refused.
            context: JSON values for the audit log, such as model and seed.

        Returns:
            One verdict per guard, including disabled ones.

        Raises:
            RefusedError: at least one guard refused, or the audit log cannot be written.
        """
        if not isinstance(prompt, str):
            verdicts = [Verdict(False, "policy", INVALID, "the prompt is not text")]
        else:
            verdicts = self._ask_all("prompt", prompt)
        is_text = isinstance(prompt, str)
        fields: dict[str, object] = {"prompt_sha256": text_sha256(prompt) if is_text else None}
        if is_text and self.record_text:
            fields["prompt"] = prompt
        self._record("prompt", verdicts, {**fields, **(context or {})})
        return _passed("The prompt", verdicts, "Rephrase the prompt")

    def check_video(
        self,
        frames_THWC: np.ndarray,
        context: Mapping[str, object] | None = None,
        fps: float | None = None,
    ) -> tuple[np.ndarray, list[Verdict]]:
        """Ask every video guard, then apply every filter to a copy.

        Args:
            frames_THWC: uint8 RGB ``(T,H,W,3)``; they are not changed.
            context: JSON values for the audit log.
            fps: frame rate in Hz; with it, a guard may judge fewer than all frames.

        Returns:
            The safe frames, a new array of the same shape, and one verdict per guard.

        Raises:
            RefusedError: a guard refused, the frames are not a video, or the audit log cannot be
                written.
        """
        problem = video_problem(frames_THWC)
        safe_THWC = frames_THWC
        if problem is not None:
            verdicts = [Verdict(False, "policy", INVALID, problem)]
        else:
            safe_THWC = frames_THWC.copy()
            # Guards get the copy, so that one that writes into it cannot change the caller's array.
            verdicts = self._ask_all("video", safe_THWC, fps)
            if all(verdict.allowed for verdict in verdicts):
                safe_THWC, filtered = self._filter(safe_THWC)
                verdicts += filtered
        digest = array_sha256(safe_THWC) if problem is None else None
        self._record("video", verdicts, {"frames_sha256": digest, **(context or {})})
        return safe_THWC, _passed("The video", verdicts, "Try another prompt or seed")

    def _ask_all(self, kind: Door, x: str | np.ndarray, fps: float | None = None) -> list[Verdict]:
        """Return the verdicts of the guards that judge; without any guard at all, a refusal."""
        verdicts = self._disabled_verdicts(kind)
        for guard in self.guards:
            if guard.kind == kind and isinstance(guard, Guard):
                verdicts.append(self._ask(guard.name, partial(_check, guard, x, fps)))
        has_filter = kind == "video" and any(guard.kind == "filter" for guard in self.guards)
        return verdicts if verdicts or has_filter else [_nobody(kind)]

    def _ask(self, name: str, question: Callable[[], Verdict]) -> Verdict:
        """Ask one guard, and record verdict and time as metrics."""
        start_s = time.perf_counter()
        verdict = ask(name, question, self.timeout_s)
        observe(name, verdict, time.perf_counter() - start_s)
        return verdict

    def _filter(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, list[Verdict]]:
        """Return the frames after every filter, or up to the first filter that refuses."""
        verdicts: list[Verdict] = []
        for guard in self.guards:
            if guard.kind == "filter" and isinstance(guard, VideoFilter):
                result = [frames_THWC]
                verdicts.append(self._ask(guard.name, partial(_apply, guard, result)))
                if not verdicts[-1].allowed:
                    break
                frames_THWC = result[0]
        return frames_THWC, verdicts

    def _disabled_verdicts(self, kind: Door) -> list[Verdict]:
        """Return one verdict per disabled guard of this kind; filters belong to the video."""
        kinds = {name: guard.kind for name, guard in BUILTIN_GUARDS.items()} | self._kinds
        stages = {"prompt": {"prompt"}, "video": {"video", "filter"}}[kind]
        # The kind of a plug-in that was never loaded is unknown: it is recorded at both doors.
        return [
            Verdict(True, name, DISABLED, "turned off by name")
            for name in sorted(self.disabled)
            if name not in kinds or kinds[name] in stages
        ]

    def _record(self, event: str, verdicts: list[Verdict], fields: Mapping[str, object]) -> None:
        """Write the verdicts to the audit log; without a record nothing passes."""
        record = {**fields, "verdicts": [verdict.to_dict() for verdict in verdicts]}
        try:
            self.audit.append(event, record)
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = (
                f"the audit log '{self.audit.path}' cannot be written: {error}. Set "
                f"{AUDIT_VARIABLE} to a file that can be written, or repair the log ('nemo-cosmos "
                "audit verify' reports what is wrong with it)"
            )
            raise RefusedError(
                f"Nothing passes without a record: {reason}.",
                [*verdicts, Verdict(False, "audit", FAILURE, reason)],
            ) from error


def summary(verdicts: Sequence[Verdict]) -> Verdict:
    """Return one verdict for many: the first refusal, else one that names who was asked.

    What the guards counted is in it, too.
    """
    for verdict in verdicts:
        if not verdict.allowed:
            return verdict
    asked = ", ".join(v.guard for v in verdicts if v.category != DISABLED) or "no guard"
    off = ", ".join(v.guard for v in verdicts if v.category == DISABLED)
    reason = f"passed {asked}" + (f"; turned off: {off}" if off else "")
    measures = {name: value for v in verdicts for name, value in v.measures.items()}
    return Verdict(True, "policy", SAFE if asked != "no guard" else DISABLED, reason, measures)


def _apply(guard: VideoFilter, result: list[np.ndarray]) -> Verdict:
    """Run one filter on a copy; keep its frames if they are a video of the same shape."""
    before = result[0]
    after, verdict = guard.apply(before.copy())
    if verdict.allowed:
        problem = video_problem(after)
        if problem is None and after.shape != before.shape:
            problem = f"the filter returned shape {after.shape} for {before.shape}"
        if problem is not None:
            return Verdict(False, guard.name, FAILURE, problem)
        result[0] = after
    return verdict


def _check(guard: Guard, x: str | np.ndarray, fps: float | None) -> Verdict:
    """Ask a guard about a prompt, or about the frames of a video that it needs."""
    if isinstance(x, np.ndarray):
        x = x[frames_to_judge(len(x), fps, getattr(guard, "frames_per_s", None))]
    return guard.check(x)


def _nobody(kind: Door) -> Verdict:
    return Verdict(False, "policy", FAILURE, f"there is no guard for the {kind}")


def _passed(what: str, verdicts: list[Verdict], advice: str) -> list[Verdict]:
    """Return the verdicts, or raise an error that names every refusal."""
    refusals = [verdict for verdict in verdicts if not verdict.allowed]
    if refusals:
        reasons = "; ".join(f"{v.guard} ({v.category}): {v.reason}" for v in refusals)
        if any(verdict.category == FAILURE for verdict in refusals):
            advice = "A guard that cannot answer refuses: repair it, or disable it by its name"
        raise RefusedError(f"{what} was refused by {reasons}. {advice}.", verdicts)
    return verdicts
