"""``nemo-cosmos guard`` and ``audit``: verdicts on prompts and videos, and the log of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_cosmos.cli.kit.options import AsJson, DisableGuard, EnableGuard, listed, typed
from nemo_cosmos.cli.main import GENERATION, HOUSE, CommandEntry, CommandGroup, Exit
from nemo_cosmos.errors import PromptError, counted

if TYPE_CHECKING:
    from nemo_cosmos.guardrails import Verdict

GUARD = CommandGroup(
    """Ask the guards about a prompt or a video, as every generation does.

    Examples:
        nemo-cosmos guard text "a robot arm picks up a red block" --json
        nemo-cosmos guard video outputs/world.mp4 --out safe.mp4 --json
        nemo-cosmos guard provenance reuploaded.mp4
    """,
    {
        "text": CommandEntry(
            "generation.guard:text", GENERATION, "Judge a prompt, or one prompt a line."
        ),
        "video": CommandEntry(
            "generation.guard:video", GENERATION, "Judge a video and write its safe copy."
        ),
        "provenance": CommandEntry(
            "generation.guard:provenance",
            GENERATION,
            "Report whether a video says that a model made it.",
        ),
    },
)

AUDIT = CommandGroup(
    """Check the audit log, in which every verdict of every guard is recorded.

    Examples:
        nemo-cosmos audit verify
    """,
    {
        "verify": CommandEntry(
            "generation.guard:verify", HOUSE, "Check that no record was changed or removed."
        ),
    },
)

FROM_STDIN = "-"


def text(
    prompt: Annotated[
        str, typer.Argument(help="The prompt; [bold]-[/bold] reads one a line from standard input.")
    ] = FROM_STDIN,
    as_json: AsJson = False,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
) -> None:
    """Ask every prompt guard, and record the verdicts in the audit log.

    The answer is the first refusal, or a verdict of "policy" that names the guards that were asked.
    Exits with 0 when all prompts may pass, with 3 when one was refused.

    Examples:
        nemo-cosmos guard text "a robot arm picks up a red block"
        nemo-cosmos guard text - --json < prompts.txt
    """
    from nemo_cosmos.guardrails.files import judge_prompt
    from nemo_cosmos.guardrails.site import site_policy

    policy = site_policy(listed(disable_guard), listed(enable_guard))
    allowed: list[bool] = []
    for line in _read_lines() if prompt == FROM_STDIN else [typed(prompt) or ""]:
        verdict = judge_prompt(policy, line)
        allowed.append(verdict.allowed)
        _print_verdict(verdict, as_json)
    if not allowed:  # a pipeline whose first part failed must not pass
        raise PromptError(
            "Standard input holds no prompt, so nothing was judged. Write one prompt a line, or "
            "give it as an argument."
        )
    if not all(allowed):
        raise typer.Exit(Exit.REFUSED)


def _read_lines() -> Iterator[str]:
    """Yield lines of standard input as they arrive; bytes that are not UTF-8 are replaced."""
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def _print_verdict(verdict: Verdict, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(verdict.to_dict()))
        return
    word = "allowed" if verdict.allowed else "refused"
    typer.echo(f"{word} by {verdict.guard} ({verdict.category}): {verdict.reason}")


def video(
    file: Annotated[Path, typer.Argument(help="The video or image to judge.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the safe copy here, an mp4; only if it may pass."),
    ] = None,
    as_json: AsJson = False,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
) -> None:
    """Ask every video guard, cover faces on a copy, and record the verdicts in the audit log.

    The answer is the first refusal, or a verdict of "policy" that names the guards that were asked.
    Exits with 0 when the video may pass, with 3 when it was refused; then no copy is written. Sound
    is not copied: no guard listens.

    Examples:
        nemo-cosmos guard video outputs/world.mp4 --out safe.mp4
        nemo-cosmos guard video clip.mp4 --json --disable-guard face_blur
    """
    from nemo_cosmos.guardrails.files import judge_file
    from nemo_cosmos.guardrails.site import site_policy

    policy = site_policy(listed(disable_guard), listed(enable_guard))
    verdict = judge_file(policy, file, out)
    _print_verdict(verdict, as_json)
    if not verdict.allowed:
        raise typer.Exit(Exit.REFUSED)


def provenance(
    file: Annotated[Path, typer.Argument(help="The video to look at.")],
    as_json: AsJson = False,
) -> None:
    """Report whether a video says that a model made it: its mark, its manifest, its watermark.

    The mark is in the file's tags and is lost with them. The watermark is in the picture and
    survives re-encoding and scaling; where there is one, its record is looked up in the audit log.
    A video without any of them may still be synthetic.

    Examples:
        nemo-cosmos guard provenance outputs/world.mp4
        nemo-cosmos guard provenance reuploaded.mp4 --json
    """
    from nemo_cosmos.guardrails.files import find_origin
    from nemo_cosmos.guardrails.site import site_log

    origin = find_origin(file, site_log())
    if as_json:
        typer.echo(json.dumps(asdict(origin)))
        return
    manifest = {None: "none", True: "beside the file, made for it", False: "of another file"}
    typer.echo(f"marked as synthetic: {'yes' if origin.synthetic else 'no'}")
    typer.echo(f"manifest: {manifest[origin.manifest_matches]}")
    typer.echo(f"watermark: {origin.watermark or 'none found'}")
    if (record := origin.audit_record) is not None:
        typer.echo(f"audit log: record {record['number']} of {record['time']}, {record['user']}")


def verify(
    log: Annotated[Path | None, typer.Argument(help="The log; the site's by default.")] = None,
    contains: Annotated[
        str | None,
        typer.Option(help="Hash of a record, kept elsewhere, that the log must contain."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every hash and link of the audit log, and that its end was not cut off.

    Exits with 0 when the log is whole, with 1 when a record was changed, moved, added or removed.
    The end is compared with the head file beside the log. Whoever can rewrite both can cut both:
    keep the hash of the last record elsewhere, and give it later as --contains.

    Examples:
        nemo-cosmos audit verify
        nemo-cosmos audit verify /var/log/nemo_cosmos/audit.jsonl --json
    """
    from nemo_cosmos.guardrails import verify_log
    from nemo_cosmos.guardrails.site import site_log

    path = log if log is not None else site_log()
    check = verify_log(path, contains)
    if as_json:
        summary = {
            "log": str(path),
            "ok": check.ok,
            "num_records": check.num_records,
            "problem": check.problem,
            "last_hash": check.last_hash,
        }
        typer.echo(json.dumps(summary))
    elif check.ok:
        typer.echo(
            f"'{path}' is whole: {counted(check.num_records, 'record')}, the last {check.last_hash}"
        )
    else:
        typer.echo(
            f"'{path}' is not whole after {counted(check.num_records, 'record')}: {check.problem}"
        )
    if not check.ok:
        raise typer.Exit(Exit.FAILED)
