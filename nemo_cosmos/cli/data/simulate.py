"""``nemo-cosmos simulate``: render robot episodes with actions and language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.options import AsJson, number, parse_size
from nemo_cosmos.errors import counted
from nemo_cosmos.progress import show_progress


def command(
    out: Annotated[Path, typer.Argument(help="Folder for the episodes; may contain some already.")],
    episodes: Annotated[
        int, number("Episodes that the folder is filled up to.", least=1, most=1e6)
    ] = 200,
    frames: Annotated[int, number("Frames of each episode.", least=2, most=100000)] = 33,
    fps: Annotated[float, number("Frames per second.", least=1, most=1000)] = 10.0,
    size: Annotated[str, typer.Option(help="Height x width in pixels, even.")] = "96x128",
    seed: Annotated[int, number("Seed of all randomness.", least=0, most=2**32 - 1)] = 1,
    workers: Annotated[int, number("Processes that render; 0: this one.", least=0, most=4096)] = 2,
    renderer: Annotated[
        str, typer.Option(help="auto, egl, osmesa, or software, which needs no system library.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Render robot episodes with actions and language in MuJoCo.

    A Franka Panda reaches for, pushes and lifts coloured blocks on a table, and moves about. Each
    episode is an mp4, its 7-D actions and states as npy, and a JSON with its instruction; every
    tenth is for validation. The same settings give the same episodes; a second run makes what is
    missing.

    Needs the package's extra "sim". The robot (157 MB) is downloaded once.

    Examples:
        nemo-cosmos simulate data/robot
        nemo-cosmos simulate data/robot --episodes 500 --workers 8 --seed 7
        nemo-cosmos simulate data/large --size 256x320 --frames 57 --renderer software --json
    """
    from post_training.robotics.simulation import SimulationSettings, simulate

    height, width = parse_size(size)
    settings = SimulationSettings(frames, fps, height, width, seed)
    with show_progress("Rendering", "episodes", "json" if as_json else "people") as update:
        report = simulate(
            out,
            episodes,
            settings,
            workers=workers,
            renderer=renderer,
            progress=update,
            say=lambda text: typer.echo(text, err=True),
        )
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        typer.echo(
            f"{counted(report.num_episodes, 'episode')} in '{report.folder}', {report.num_new} "
            "of them new "
            f"({report.seconds:.0f} s, renderer {report.renderer}); the task succeeded in "
            f"{report.num_succeeded}."
        )
