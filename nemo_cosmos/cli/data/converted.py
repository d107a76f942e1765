"""What every ``nemo-cosmos convert`` says at its end."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import typer

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.errors import counted

if TYPE_CHECKING:
    from post_training.conversion import ConversionReport


def say_converted(
    report: ConversionReport, noun: str, next_command: str, options: str, as_json: bool
) -> None:
    """Say what became of a data set.

    Args:
        report: what was converted and what was left out.
        noun: a recording's name in the singular, such as ``episode``.
        next_command: the command that takes the folder, such as ``curate``.
        options: its options.
        as_json: whether a program reads it.

    Raises:
        typer.Exit: code 1, where nothing could be converted.
    """
    if as_json:
        typer.echo(json.dumps(report.to_json()))
    else:
        typer.echo(
            f"{counted(report.num_converted, noun)} in '{report.folder}', "
            f"{report.num_reused} of them finished earlier."
        )
        for name, reason in report.rejected.items():
            typer.echo(f"  left out {name}: {reason}")
        if report.num_converted:
            words = ["nemo-cosmos", next_command, shlex.quote(report.folder), "SHARDS", options]
            typer.echo(f"Next: {' '.join(word for word in words if word)}")
    if not report.num_converted:
        raise typer.Exit(Exit.FAILED)
