"""What every prompt guard refuses before it judges: no text, too much of it, or none at all."""

from __future__ import annotations

import re

from nemo_cosmos.guardrails.base import INVALID, Verdict
from nemo_cosmos.guardrails.text.normalise import plain

#: A longer prompt is refused: no text encoder reads so far, and judging it would take seconds.
MAX_CHARACTERS = 10_000


def refuse_unreadable(guard: str, prompt: object) -> Verdict | None:
    """Return a refusal of a prompt that cannot be judged; None for one that can.

    Args:
        guard: the guard's name, for the verdict.
        prompt: what was given to it.
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
