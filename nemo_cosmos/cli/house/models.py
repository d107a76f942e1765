"""``nemo-cosmos models``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.cli.kit.options import AsJson
from nemo_cosmos.errors import ConfigError


def command(
    world: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORLD]", help="A world's folder, or a run's, to describe instead."
        ),
    ] = None,
    as_json: AsJson = False,
    family: Annotated[
        str | None,
        typer.Option("--family", help="Only 'diffusion', 'autoregressive' or 'tokenizer'."),
    ] = None,
) -> None:
    """List every preset with its number of parameters, or say what a world is told in.

    A preset's parameters are counted on the meta device. Of a world, its videos, its controls and
    the meaning of every number of its actions are shown.

    Examples:
        nemo-cosmos models
        nemo-cosmos models --json --family diffusion
        nemo-cosmos models outputs/robot/export
    """
    if world is not None:
        if family is not None:
            raise ConfigError("--family chooses among presets; a WORLD has its own. Give one.")
        _describe(world, as_json)
        return
    from recipes.presets import list_presets

    rows = list_presets(family)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


def _describe(world: str, as_json: bool) -> None:
    """Say what a world makes, and what each of its controls is told in."""
    from nemo_cosmos.checkpoint.world.config import read_config
    from nemo_cosmos.controls import controls_of
    from nemo_cosmos.storage import exported_folder
    from post_training.robotics.signal import ACTION_CONTROL, embodiments_of

    folder = exported_folder(world)
    config = read_config(folder)
    embodiments = {
        spec.name: embodiments_of(spec.options)
        for spec in config.controls
        if spec.name == ACTION_CONTROL.name
    }
    if as_json:
        told = {
            name: several[0].to_dict() if len(several) == 1 else [one.to_dict() for one in several]
            for name, several in embodiments.items()
        }
        typer.echo(json.dumps({**config.to_dict(), "embodiments": told}, indent=2))
        return
    from rich.console import Console

    from nemo_cosmos.cli.data.embodiment_table import embodiment_table, embodiment_title

    video = config.video
    typer.echo(f"'{folder}': {config.preset or 'a size of its own'}, {config.family}")
    typer.echo(
        f"videos of {video['num_frames']} frames, {video['width']}x{video['height']}, at "
        f"{video['fps']:g} frames a second"
    )
    if not config.controls:
        typer.echo("no control")
    for spec, control in zip(config.controls, controls_of(config.controls), strict=True):
        files = ", ".join(signal.suffix for signal in control.signals)
        typer.echo(f"\ncontrol '{spec.name}', read from {files}")
        recorded = {"embodiment", "embodiments"} & spec.options.keys()
        for one in embodiments.get(spec.name, ()):
            typer.echo(
                embodiment_title(one)
                + ("" if recorded else " Assumed: the world was made before it was recorded.")
            )
            Console().print(embodiment_table(one))


def _print_table(rows: list[JsonObject]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "family", "task", "parameters")
    table.columns[3].justify = "right"
    for row in rows:
        table.add_row(row["name"], row["family"], row["task"], f"{row['parameters']:,}")
    Console().print(table)
