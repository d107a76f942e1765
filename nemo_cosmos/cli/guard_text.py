"""``nemo-cosmos guard text``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_cosmos.cli.generation import DisableGuard, EnableGuard, site_guards

if TYPE_CHECKING:
    from nemo_cosmos.guardrails import GuardPolicy, Verdict

#: Exit code when at least one prompt was refused; errors have code 2.
EXIT_REFUSED = 1
FROM_STDIN = "-"


def command(
    prompt: Annotated[
        str, typer.Argument(help="The prompt; [bold]-[/bold] reads one a line from standard input.")
    ] = FROM_STDIN,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a prompt: the verdict.")
    ] = False,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
) -> None:
    """Ask every prompt guard, and record the verdicts in the audit log.

    The answer is the first refusal, or a verdict of "policy" that names the guards that were asked.
    Exits with 0 when all prompts may pass, with 1 when one was refused.

    [bold]Examples[/bold]

      nemo-cosmos guard text "a robot arm picks up a red block"

      nemo-cosmos guard text - --json < prompts.txt
    """
    from nemo_cosmos.platform.quiet import quiet_libraries

    quiet_libraries()
    policy = site_guards(disable_guard, enable_guard)
    refused = False
    for text in _read_lines() if prompt == FROM_STDIN else [prompt]:
        verdict = judge(policy, text)
        refused |= not verdict.allowed
        typer.echo(json.dumps(verdict.to_dict()) if as_json else _sentence(verdict))
    if refused:
        raise typer.Exit(EXIT_REFUSED)


def judge(policy: GuardPolicy, prompt: str) -> Verdict:
    """One verdict for a prompt: the first refusal, or that of the policy."""
    from nemo_cosmos.guardrails import RefusedError
    from nemo_cosmos.guardrails.policy import summary

    try:
        return summary(policy.check_prompt(prompt))
    except RefusedError as refusal:
        return summary(refusal.verdicts)


def _read_lines() -> Iterator[str]:
    """Lines of standard input as they come; bytes that are not UTF-8 do not stop the rest."""
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def _sentence(verdict: Verdict) -> str:
    word = "allowed" if verdict.allowed else "refused"
    return f"{word} by {verdict.guard} ({verdict.category}): {verdict.reason}"
