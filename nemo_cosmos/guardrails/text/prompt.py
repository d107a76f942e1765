"""What every prompt guard refuses unread: what is not text, is too long, or has no words."""

from __future__ import annotations

import re
import unicodedata

from nemo_cosmos.guardrails.base import INVALID, Verdict
from nemo_cosmos.guardrails.text.normalise import plain

#: A longer prompt is refused: no text encoder reads that far, and judging it would take seconds.
MAX_CHARACTERS = 10_000
#: Code points that Unicode keeps out of texts; so are the last two of each plane.
_NO_CHARACTERS = frozenset(map(chr, range(0xFDD0, 0xFDF0)))


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
    elif (odd := _not_text(prompt)) is not None:
        reason = odd
    elif not re.search(r"[^\W_]", read := plain(prompt)):  # nothing that a reading has words of
        reason = (
            "the prompt holds no words that can be read" if read.strip() else "the prompt is empty"
        )
    else:
        return None
    return Verdict(False, guard, INVALID, reason)


def _not_text(prompt: str) -> str | None:
    """Return why a prompt is no text: binary data, UTF-16, half of a character pair."""
    for place, c in enumerate(prompt, start=1):
        what = None
        if c == "\ufffd" or unicodedata.category(c) == "Cs":
            what = "stands for bytes that are not UTF-8"
        elif unicodedata.category(c) == "Cc" and not c.isspace():
            what = "is a control character"
        elif unicodedata.category(c) == "Co" or ord(c) & 0xFFFE == 0xFFFE or c in _NO_CHARACTERS:
            what = "is no character that everybody has"
        if what is not None:
            return (
                f"the prompt is not plain text: U+{ord(c):04X} at place {place} {what}; give it in "
                "UTF-8, without it"
            )
    return None
