"""How each language model that judges prompts is asked, and how its answer is read.

Categories are looked up by the code that the model writes, never by position: Aegis has no O9, so
that counting would give the wrong category from O10 on. An answer in another format is an error,
which is a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.base import SAFE

#: Name of a category whose code is not in the model's list.
UNKNOWN_CATEGORY = "unlisted"

#: Aegis 1.0 (Ghosh et al. 2024, arXiv:2404.05993), as NVIDIA's guardrail uses it.
AEGIS_CATEGORIES = {
    "O1": "violence", "O2": "sexual", "O3": "criminal_planning", "O4": "weapons",
    "O5": "substance_abuse", "O6": "suicide", "O7": "child_abuse", "O8": "hatred",
    "O10": "harassment", "O11": "threat", "O12": "profanity",
}  # fmt: skip
#: The MLCommons hazards of Llama Guard 3, and S14.
LLAMA_GUARD_CATEGORIES = {
    "S1": "violent_crimes", "S2": "non_violent_crimes", "S3": "sex_crimes",
    "S4": "child_abuse", "S5": "defamation", "S6": "specialized_advice", "S7": "privacy",
    "S8": "intellectual_property", "S9": "indiscriminate_weapons", "S10": "hate",
    "S11": "suicide_and_self_harm", "S12": "sexual", "S13": "elections",
    "S14": "code_interpreter_abuse",
}  # fmt: skip
QWEN_CATEGORIES = {
    "Violent": "violence", "Non-violent Illegal Acts": "crime",
    "Sexual Content or Sexual Acts": "sexual", "PII": "privacy",
    "Suicide & Self-Harm": "self_harm", "Unethical Acts": "unethical",
    "Politically Sensitive Topics": "politics", "Copyright Violation": "copyright",
    "Jailbreak": "jailbreak", "None": UNKNOWN_CATEGORY,
}  # fmt: skip

#: Text that could end the quoted prompt early, or pass for the model's own.
_MARKERS = re.compile(r"<\|[^|>]*\|>|</?s>|\[/?INST\]|<(?:BEGIN|END)[^>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class LlmFormat:
    """One family of judging models.

    Attributes:
        name: the guard's name.
        model: its repository on the hub.
        categories: names of the categories by the code that the model writes.
        parse: reads an answer; returns ``safe`` or the name of a category.
        adapter: repository of a PEFT adapter on the model.
        has_template: whether the model's own chat template asks the question; otherwise
            :func:`llama_guard_prompt` does.
    """

    name: str
    model: str
    categories: Mapping[str, str]
    parse: Callable[[str, Mapping[str, str]], str]
    adapter: str | None = None
    has_template: bool = True


def llama_guard_prompt(prompt: str, categories: Mapping[str, str]) -> str:
    """Return the question in the format of the first Llama Guard, with the given categories."""
    quoted = _MARKERS.sub(" ", prompt)
    policy = "\n".join(f"{code}: {name.replace('_', ' ')}" for code, name in categories.items())
    return (
        "[INST] Task: Check if there is unsafe content in 'User' messages in conversations "
        "according to our safety policy with the below categories.\n\n"
        f"<BEGIN UNSAFE CONTENT CATEGORIES>\n{policy}\n<END UNSAFE CONTENT CATEGORIES>\n\n"
        f"<BEGIN CONVERSATION>\n\nUser: {quoted}\n\n<END CONVERSATION>\n\n"
        "Provide your safety assessment for 'User' in the above conversation:\n"
        "- First line must read 'safe' or 'unsafe'.\n"
        "- If unsafe, a second line must include a comma-separated list of violated categories. "
        "[/INST]"
    )


def parse_llama_guard(answer: str, categories: Mapping[str, str]) -> str:
    """Read ``safe``, or ``unsafe`` and a line of codes such as ``O10,O3``; the first one counts.

    Raises:
        GuardrailError: the answer is neither.
    """
    words = answer.split()
    first = words[0].lower() if words else ""
    if first == "safe" and len(words) == 1:
        return SAFE
    if first != "unsafe":
        raise _unreadable(answer, "'safe', or 'unsafe' and a line of codes")
    code = re.search(r"\b([OS]\d+)\b", answer, re.IGNORECASE)
    return categories.get(code.group(1).upper(), UNKNOWN_CATEGORY) if code else UNKNOWN_CATEGORY


def parse_qwen_guard(answer: str, categories: Mapping[str, str]) -> str:
    """Read ``Safety: Safe`` or ``Safety: Unsafe`` with ``Categories: ...``; the first one counts.

    ``Controversial`` counts as unsafe.

    Raises:
        GuardrailError: the answer has no such line, or more than one.
    """
    levels = re.findall(r"^Safety: *(\w+) *$", answer.strip(), re.MULTILINE)
    if len(levels) != 1 or levels[0] not in ("Safe", "Unsafe", "Controversial"):
        raise _unreadable(answer, "one line 'Safety: Safe', 'Unsafe' or 'Controversial'")
    if levels[0] == "Safe":
        return SAFE
    line = re.search(r"^Categories: *(.*)$", answer, re.MULTILINE)
    written = line.group(1).split(",")[0].strip() if line else ""
    return categories.get(written, UNKNOWN_CATEGORY)


def _unreadable(answer: str, expected: str) -> GuardrailError:
    return GuardrailError(
        f"The language model answered {answer.strip()!r:.80}, expected {expected}. Check that the "
        "model is the one that the guard was made for."
    )


LLM_FORMATS: dict[str, LlmFormat] = {
    "aegis": LlmFormat(
        "aegis",
        "meta-llama/LlamaGuard-7b",
        AEGIS_CATEGORIES,
        parse_llama_guard,
        adapter="nvidia/Aegis-AI-Content-Safety-LlamaGuard-Defensive-1.0",
        has_template=False,
    ),
    "llama_guard": LlmFormat(
        "llama_guard", "meta-llama/Llama-Guard-3-8B", LLAMA_GUARD_CATEGORIES, parse_llama_guard
    ),
    "qwen3guard": LlmFormat(
        "qwen3guard", "Qwen/Qwen3Guard-Gen-0.6B", QWEN_CATEGORIES, parse_qwen_guard
    ),
}
