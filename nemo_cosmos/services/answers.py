"""Take what a model wraps around its answer off, and notice an answer that refuses.

Reasoning models think aloud first, chat models put code fences around what they were asked for, and
a server with the wrong template leaves control tokens in. None of it belongs to the answer.
"""

from __future__ import annotations

import json
import re

# An opening tag may be part of the prompt's template, so that only the closing one is seen.
_THOUGHTS = re.compile(
    r"\A.*(?:</(?:think(?:ing)?|thought|reasoning|reflection)>|\[/THINK\]|<\|/think\|>)",
    re.DOTALL | re.IGNORECASE,
)
# Thinking that was cut off has no end, and no answer after it.
_ENDLESS_THOUGHTS = re.compile(
    r"(?:<(?:think(?:ing)?|thought|reasoning|reflection)>|\[THINK\]).*\Z", re.DOTALL | re.IGNORECASE
)
# The harmony format of gpt-oss: only the channel "final" is the answer.
_CHANNELS = re.compile(
    r"(?:<\|start\|>\s*\w+\s*)?<\|channel\|>\s*(\w+)[^<]*<\|message\|>(.*?)"
    r"(?=<\|(?:end|return|start|channel)\|>|\Z)",
    re.DOTALL,
)
_CONTROL_TOKENS = re.compile(
    r"<\|[^|<>]*\|>|<\uff5c[^\uff5c<>]*\uff5c>|</?s>|<(?:bos|eos|pad|unk)>"
    r"|<(?:start|end)_of_turn>(?:model\b|user\b)?|\[/?INST\]|<</?SYS>>"
)
_ROLE = re.compile(r"\A\s*(?:<\|im_start\|>|<\|start_header_id\|>)\s*assistant\b", re.IGNORECASE)
_FENCES = re.compile(r"^[ \t]*```[\w-]*[ \t]*$", re.MULTILINE)
_ONE_FENCE = re.compile(r"\A```(?:\w+(?=[ \t]*[\n{]))?(.*)```\Z", re.DOTALL)
_TAGS = re.compile(
    r"\A<(answer|caption|description|output|response)>(.*)</\1>\Z", re.DOTALL | re.IGNORECASE
)
_LABEL = re.compile(
    r"\A(?:\*\*|__)?(?:assistant|answer|caption|description)\s*:\s*(?:\*\*|__)?\s*", re.I
)
_PREAMBLE = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay|absolutely)\b[^:\n]{0,80}[!.,:]\s*)?"
    r"(?:here(?:['\u2019]s| is)|below is|this is)\s[^:\n]{0,80}"
    r"(?:caption|description|summary|answer)\b[^:\n]{0,60}:\s*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\A(?:\"([^\"]*)\"|\u201c([^\u201c\u201d]*)\u201d)\Z")
#: Keys under which a model that answers in JSON puts the words that it was asked for.
_WORD_KEYS = ("caption", "description", "answer", "text", "response")
_REFUSAL = re.compile(
    r"\W*(?:unfortunately\W+)?(?:"
    r"(?:(?:i['\u2019]?m|i am)\s+(?:very\s+|really\s+)?sorry|sorry|my apologies|i apologi[sz]e)\b"
    r"|(?:i['\u2019]?m|i am)\s+(?:un|not\s+)able\s+to\b"
    r"|i\s+(?:can(?:no|['\u2019]?)t|can\s+not|won['\u2019]?t|will\s+not)\s+"
    r"(?:\w+ly\s+)?(?:assist|help|provide|describe|comply|fulfil|answer|generate|create|engage|do"
    r"|identify|discuss|continue)"
    r"|i\s+(?:can(?:no|['\u2019]?)t|can\s+not|do\s+not|don['\u2019]?t)\s+"
    r"(?:see|view|watch|access|open|process)\s+"
    r"(?:any\s+|the\s+|this\s+|your\s+)?(?:video|image|frame|picture|clip|content|media)"
    r"|i\s+(?:do\s+not|don['\u2019]?t)\s+have\s+(?:the\s+ability|access|permission)"
    r"|(?:this|the|your)\s+request\s+(?:violates|goes\s+against|can\s?not)"
    r"|as\s+an?\s+(?:ai|language\s+model)\b|(?:i['\u2019]?m|i am)\s+(?:just\s+)?an?\s+ai\b"
    # German, French, Spanish, Italian, Portuguese
    r"|es\s+tut\s+mir\s+leid|tut\s+mir\s+leid|ich\s+kann\s+(?:dir|ihnen|das|dabei|diese[nrs]?)\b"
    r"|(?:je\s+suis\s+)?d[ée]sol[ée]|je\s+ne\s+peux\s+pas|lo\s+siento|no\s+puedo\s"
    r"|mi\s+dispiace|non\s+posso\s|(?:sinto\s+muito|desculpe)|n[aã]o\s+posso\s"
    # Chinese: sorry (two ways), I cannot
    r"|\u5f88?\u62b1\u6b49|\u5bf9\u4e0d\u8d77|\u6211(?:\u65e0\u6cd5|\u4e0d\u80fd)"
    # Japanese: I am sorry (two ways); Korean: sorry
    r"|\u7533\u3057\u8a33|\u3059\u307f\u307e\u305b\u3093|\uc8c4\uc1a1"
    r")",
    re.IGNORECASE,
)


def answer_words(text: str) -> str:
    """The answer alone: without thoughts, code fences and control tokens; may be empty.

    Args:
        text: what the model wrote.
    """
    channels = dict(_CHANNELS.findall(text))
    if channels:
        text = channels.get("final", "")
    answer = _ENDLESS_THOUGHTS.sub("", _THOUGHTS.sub("", text))
    answer = _CONTROL_TOKENS.sub("", _ROLE.sub("", answer)).strip()
    fenced = _ONE_FENCE.match(answer)
    if fenced and "```" not in fenced[1]:
        answer = fenced[1]
    return _FENCES.sub("", answer).strip()


def description_words(text: str) -> str:
    """The description alone: :func:`answer_words` without what a chat model says around one.

    That is a preamble ("Sure! Here is the caption:"), a label, tags, quotation marks around the
    whole, or a JSON object whose only words are the description.

    Args:
        text: what the model wrote.
    """
    words = _PREAMBLE.sub("", answer_words(text)).strip()
    if tagged := _TAGS.match(words):
        words = tagged[2].strip()
    words = _LABEL.sub("", _of_json(words)).strip()
    if quoted := _QUOTED.match(words):
        words = (quoted[1] or quoted[2] or "").strip()
    return words


def _of_json(words: str) -> str:
    """The description within a JSON object; other words as they are."""
    if not words.startswith("{"):
        return words
    try:
        found = json.loads(words)
    except ValueError:
        return words
    return next((found[key] for key in _WORD_KEYS if isinstance(found.get(key), str)), words)


def is_refusal(words: str) -> bool:
    """Whether an answer begins as models begin when they do not do what they are asked.

    Args:
        words: the answer, as :func:`answer_words` gives it.
    """
    return _REFUSAL.match(words) is not None
