"""Take what a model wraps around its answer off, and notice an answer that refuses.

Reasoning models think aloud first, chat models put code fences around what they were asked for, and
a server with the wrong template leaves control tokens in. None of it belongs to the answer.
"""

from __future__ import annotations

import re

# An opening tag may be part of the prompt's template, so that only the closing one is seen.
_THOUGHTS = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
# Thinking that was cut off has no end, and no answer after it.
_ENDLESS_THOUGHTS = re.compile(r"<think(?:ing)?>.*\Z", re.DOTALL | re.IGNORECASE)
_CONTROL_TOKENS = re.compile(r"<\|[^|<>]*\|>|</?s>")
_FENCES = re.compile(r"^[ \t]*```[\w-]*[ \t]*$", re.MULTILINE)
_REFUSAL = re.compile(
    r"\W*(?:"
    r"(?:(?:i['\u2019]?m|i am)\s+(?:very\s+|really\s+)?sorry|sorry|my apologies|i apologi[sz]e)\b"
    r"|(?:i['\u2019]?m|i am)\s+(?:un|not\s+)able\s+to\b"
    r"|i\s+(?:can(?:no|['\u2019]?)t|can\s+not|won['\u2019]?t|will\s+not)\s+"
    r"(?:\w+ly\s+)?(?:assist|help|provide|describe|comply|fulfil|answer|generate|create|engage|do)"
    r"|as\s+an?\s+(?:ai|language\s+model)\b"
    # Chinese: sorry (two ways), I cannot
    r"|\u5f88?\u62b1\u6b49|\u5bf9\u4e0d\u8d77|\u6211(?:\u65e0\u6cd5|\u4e0d\u80fd)"
    r")",
    re.IGNORECASE,
)


def answer_words(text: str) -> str:
    """The answer alone: without thoughts, code fences and control tokens; may be empty.

    Args:
        text: what the model wrote.
    """
    answer = _ENDLESS_THOUGHTS.sub("", _THOUGHTS.sub("", text))
    return _FENCES.sub("", _CONTROL_TOKENS.sub("", answer)).strip()


def is_refusal(words: str) -> bool:
    """Whether an answer begins as models begin when they do not do what they are asked.

    Args:
        words: the answer, as :func:`answer_words` gives it.
    """
    return _REFUSAL.match(words) is not None
