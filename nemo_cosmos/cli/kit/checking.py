"""``--check``: go through a command's checklist, show it, and stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from nemo_cosmos.checklist import Check, go_through, require
from nemo_cosmos.storage.system_errors import said_by_the_system

CheckOnly = Annotated[
    bool,
    typer.Option(
        "--check", help="Check outputs, room, options and inputs, print a table, and stop."
    ),
]


def look_first(checks: Sequence[Check], only: bool, as_json: bool = False) -> None:
    """Require a checklist; with ``--check`` show all of it and stop.

    Args:
        checks: the checklist.
        only: whether ``--check`` was given.
        as_json: whether to print a list of JSON objects instead of a table.

    Raises:
        typer.Exit: ``--check`` was given; code 0 where all is well, else 2.
        NemoCosmosError: something is wrong.
    """
    if not only:
        require(checks)
        return
    findings = go_through(checks, said_by_the_system)
    if as_json:
        rows = [{"check": one.name, "ok": one.is_well, "found": one.text} for one in findings]
        typer.echo(json.dumps(rows, indent=2))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("check", "", "found")
        for one in findings:
            sign = "[green]ok[/green]" if one.is_well else "[bold red]wrong[/bold red]"
            table.add_row(one.name, sign, one.text.replace("[", "\\["))
        Console().print(table)
    from nemo_cosmos.cli.main import Exit

    raise typer.Exit(Exit.DONE if all(one.is_well for one in findings) else Exit.WRONG_USE)
