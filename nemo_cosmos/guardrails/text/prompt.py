"""What every prompt guard refuses unread: what is not text, is too long, or is empty."""

from __future__ import annotations

import re

from nemo_cosmos.guardrails.base import INVALID, Verdict
from nemo_cosmos.guardrails.text.normalise import plain

#: A longer prompt is refused: no text encoder reads that far, and judging it would take seconds.
MAX_CHARACTERS = 10_000


def refuse_unreadable(guard: str, prompt: object) -> Verdict | None:
    """Return a refusal of a prompt that cannot be judged; None for one that can.

    Args:
        guard: the guard's name, for the verdict.
        prompt: the prompt, which may be anything.
    """
    if not isinstance(prompt, str):
        reason = f"the prompt is a {type(prompt).__name__}, not text"
    elif len(prompt) > MAX_CHARACTERS:
        reason = f"the prompt has {len(prompt)} characters, at most {MAX_CHARACTERS} are judged"
    elif not re.search(r"[^\W_]", plain(prompt)):  # nothing that a reading has words of
        reason = "the prompt is empty"
    else:
        return None
    return Verdict(False, guard, INVALID, reason)
