"""``nemo-cosmos models``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.cli.kit.options import AsJson


def command(
    as_json: AsJson = False,
    family: Annotated[
        str | None,
        typer.Option("--family", help="Only 'diffusion', 'autoregressive' or 'tokenizer'."),
    ] = None,
) -> None:
    """List every preset with its number of parameters, counted on the meta device.

    Examples:
        nemo-cosmos models
        nemo-cosmos models --json --family diffusion
    """
    from recipes.presets import list_presets

    rows = list_presets(family)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


def _print_table(rows: list[JsonObject]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "family", "task", "parameters")
    table.columns[3].justify = "right"
    for row in rows:
        table.add_row(row["name"], row["family"], row["task"], f"{row['parameters']:,}")
    Console().print(table)
