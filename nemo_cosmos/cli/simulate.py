"""``nemo-cosmos simulate``: render robot episodes with actions and language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.sizes import parse_size


def command(
    out: Annotated[Path, typer.Argument(help="Folder for the episodes; may hold some already.")],
    episodes: Annotated[int, typer.Option(help="How many there shall be in the folder.")] = 200,
    frames: Annotated[int, typer.Option(help="Frames of each episode.")] = 33,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 10.0,
    size: Annotated[str, typer.Option(help="Height x width in pixels, even.")] = "96x128",
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that film at the same time.")] = 2,
    renderer: Annotated[
        str, typer.Option(help="auto, egl, osmesa, or software, which needs no system library.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Render robot episodes with actions and language in MuJoCo.

    A Franka Panda reaches for, pushes and lifts coloured blocks on a table, and moves about. Each
    episode is an mp4, its 7-D actions and states as npy, and a JSON with its words; every tenth is
    for validation. The same settings give the same episodes; a second run makes what is missing.

    Needs the extra "sim" of the package. The robot (157 MB) is fetched once.

    Examples:
      nemo-cosmos simulate data/robot

      nemo-cosmos simulate data/robot --episodes 500 --workers 8 --seed 7

      nemo-cosmos simulate data/large --size 256x320 --frames 57 --renderer software --json
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from post_training.robotics.simulation import SimulationSettings, simulate

    height, width = parse_size(size)
    settings = SimulationSettings(frames, fps, height, width, seed)
    console = Console(stderr=True)
    columns = (
        TextColumn("[bold]simulate[/bold]"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=as_json) as bar:
        task = bar.add_task("simulate", total=episodes)
        report = simulate(
            out,
            episodes,
            settings,
            workers=workers,
            renderer=renderer,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            say=lambda text: console.print(text, markup=False),
        )
        bar.update(task, completed=episodes)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        typer.echo(
            f"{report.num_episodes} episodes in '{report.folder}', {report.num_new} of them new "
            f"({report.seconds:.0f} s, renderer {report.renderer}); the task came out in "
            f"{report.num_succeeded}."
        )
