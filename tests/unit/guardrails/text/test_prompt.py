"""What all prompt guards refuse before they judge, in the same words."""

from __future__ import annotations

import pytest

from nemo_cosmos.guardrails.text.keywords import KeywordGuard
from nemo_cosmos.guardrails.text.llm_formats import LLM_FORMATS
from nemo_cosmos.guardrails.text.llm_guard import LlmGuard
from nemo_cosmos.guardrails.text.prompt import MAX_CHARACTERS, refuse_unreadable
from nemo_cosmos.guardrails.text.text_classifier import TextClassifierGuard


def never() -> object:
    pytest.fail("a prompt that cannot be judged was judged")


GUARDS = [
    KeywordGuard(),
    TextClassifierGuard({"multilingual": lambda texts: never()}),  # type: ignore[arg-type, return-value, dict-item]
    LlmGuard(LLM_FORMATS["aegis"], never),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (b"a robot", "the prompt is a bytes, not text"),
        ("a" * (MAX_CHARACTERS + 1), "10001 characters, at most 10000"),
        ("", "empty"),
        (" \n\t", "empty"),
        ("\u200b\u2060", "empty"),
        ("?!___", "no words that can be read"),
        ("\U0001f52a\U0001fa78", "no words that can be read"),  # pictures alone are no sentence
        (".- / -- .- -. / -.- .. .-.. .-.. ...", "no words that can be read"),
        ("\ufffdPNG\ufffd a", "U+FFFD at place 1 stands for bytes that are not UTF-8"),
        ("a robot \udcff arm", "U+DCFF at place 9 stands for bytes"),
        ("\ud83d robot", "U+D83D"),
        ("a\0 \0r\0o\0b\0o\0t\0", "U+0000 at place 2 is a control character"),
        ("\x1b[31mred", "U+001B"),
        ("\ue000 robot", "U+E000"),
        ("robot \uffff", "U+FFFF"),
        ("robot \ufdd0", "U+FDD0"),
    ],
)
def test_unreadable_prompts_are_refused_unread(guard, prompt, reason):
    verdict = guard.check(prompt)
    assert (verdict.allowed, verdict.category, verdict.guard) == (
        False,
        "invalid_input",
        guard.name,
    )
    assert reason in verdict.reason


def test_a_readable_prompt_is_left_to_the_guard():
    assert refuse_unreadable("keywords", "a robot") is None
    assert refuse_unreadable("keywords", "机器人") is None
    assert refuse_unreadable("keywords", "\ufeffa robot\r\n\twaits\x0b\x85now \U0001f916") is None
