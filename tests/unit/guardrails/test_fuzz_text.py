"""Whatever text comes, the whole policy of prompts gives a verdict, and its log stays whole."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError, verify_log
from nemo_cosmos.guardrails.registry import build_guard

GUARDS = [build_guard("keywords"), build_guard("text_classifier"), build_guard("language")]
#: All of Unicode, half of a surrogate pair and control characters, too.
_ODD = "\ud800\udfff\x00\u202e\u200d ab0@."
TEXTS = st.text(st.characters(), max_size=80) | st.text(_ODD, max_size=40)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TEXTS | st.none() | st.integers() | st.binary(max_size=20), st.booleans())
def test_any_prompt(tmp_path, prompt, record_text):
    log = AuditLog(tmp_path / "audit.jsonl")
    policy = GuardPolicy(GUARDS, audit=log, record_text=record_text)
    try:
        verdicts = policy.check_prompt(prompt)  # type: ignore[arg-type]
    except RefusedError as refusal:
        assert any(not verdict.allowed for verdict in refusal.verdicts)
    else:
        assert isinstance(prompt, str)
        assert [verdict.guard for verdict in verdicts] == [
            "keywords",
            "text_classifier",
            "language",
        ]


def test_the_log_of_odd_prompts_is_whole(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    policy = GuardPolicy([GUARDS[0]], audit=log, record_text=True)
    for prompt in ("\ud800", "\x00a", "\u2028 a line", "a\nb", "x" * 20_000, np.str_("a cup")):
        try:
            policy.check_prompt(prompt)
        except RefusedError:
            continue
    check = verify_log(log.path)
    assert (check.ok, check.num_records) == (True, 6)
