"""Several options reach a command as one parameter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from nemo_cosmos.cli.kit.grouped import grouped


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option("--colour", "-c", help="Its colour.")] = "red"
    layers: Annotated[int, typer.Option(help="How many layers.")] = 1
    words: Annotated[list[str] | None, typer.Option("--word", help="What is written.")] = None


def app(seen: list[object]) -> typer.Typer:
    made = typer.Typer()

    @made.command()
    @grouped
    def paint(wall: Path, *, paint: Paint, dry: bool = False) -> None:
        """Paint a wall."""
        seen.append((wall, paint, dry))

    return made


def test_a_command_gets_its_group_with_defaults_and_with_what_was_given() -> None:
    seen: list[object] = []
    assert CliRunner().invoke(app(seen), ["north"]).exit_code == 0
    line = ["south", "-c", "blue", "--layers", "2", "--word", "a", "--word", "b", "--dry"]
    assert CliRunner().invoke(app(seen), line).exit_code == 0
    assert seen == [
        (Path("north"), Paint(), False),
        (Path("south"), Paint("blue", 2, ["a", "b"]), True),
    ]


def test_the_help_has_the_options_and_not_the_group() -> None:
    shown = CliRunner().invoke(app([]), ["--help"]).output
    assert "--colour" in shown
    assert "How many layers." in shown
    assert "--paint" not in shown
    assert "Paint a wall." in shown


def test_a_wrong_value_is_refused_under_its_own_name() -> None:
    refused = CliRunner().invoke(app([]), ["north", "--layers", "many"])
    assert refused.exit_code == 2
    assert "--layers" in refused.output
