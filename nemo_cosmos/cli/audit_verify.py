"""``nemo-cosmos audit verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

#: Exit code when the log is not whole; errors have code 2.
EXIT_BROKEN = 1


def command(
    log: Annotated[Path | None, typer.Argument(help="The log; the site's by default.")] = None,
    contains: Annotated[
        str | None,
        typer.Option(help="Hash of a record that was noted elsewhere and must still be there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check every hash and link of the audit log, and that its end was not cut off.

    Exits with 0 when the log is whole, with 1 when a record was changed, moved, added or removed.
    The end is compared with the head file beside the log. Who can rewrite both can cut both: note
    the hash of the last record elsewhere, and give it later as --contains.

    [bold]Examples[/bold]

      nemo-cosmos audit verify

      nemo-cosmos audit verify /var/log/nemo_cosmos/audit.jsonl --json
    """
    from nemo_cosmos.guardrails import verify_log

    path = log if log is not None else site_log()
    check = verify_log(path, contains)
    if as_json:
        told = {
            "log": str(path),
            "ok": check.ok,
            "num_records": check.num_records,
            "problem": check.problem,
            "last_hash": check.last_hash,
        }
        typer.echo(json.dumps(told))
    elif check.ok:
        typer.echo(f"'{path}' is whole: {check.num_records} records, the last {check.last_hash}")
    else:
        typer.echo(f"'{path}' is not whole after {check.num_records} records: {check.problem}")
    if not check.ok:
        raise typer.Exit(EXIT_BROKEN)


def site_log() -> Path:
    """The audit log that the site's settings name, by default the user's."""
    from nemo_cosmos.guardrails.audit import default_log_path
    from nemo_cosmos.site import compose_site

    named = compose_site()["guardrails"]["audit_log"]
    return Path(named) if named else default_log_path()
