"""``nemo-cosmos dataset lerobot``: episodes as a LeRobot data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.options import AsJson
from nemo_cosmos.errors import counted
from nemo_cosmos.progress import show_progress


def write(
    episodes: Annotated[
        Path, typer.Argument(help="Folder of mp4 files with their actions as NAME.action.npy.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the data set; new or empty.")],
    signals: Annotated[
        Path | None,
        typer.Option(help="Folder with actions and words of the same names, if videos lie alone."),
    ] = None,
    embodiment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the actions are: a name of the table, or FILE.yaml:NAME; by default what "
            "their JSON says.",
        ),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(help="What the first camera is called; by default what the JSON says."),
    ] = None,
    robot: Annotated[
        str | None, typer.Option(help="The robot's type; by default what the JSON says.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write recorded or generated episodes as a LeRobot data set of version 3.0; needs pyarrow.

    Videos are copied as they are, further cameras (NAME.VIEW.mp4) as cameras of their own; actions,
    states, times and instructions become the table. What 'nemo-cosmos evaluate --model' generated
    lies in its folder 'videos/own'; the actions are those of the recordings (--signals). Nothing is
    written unless all episodes fit together.

    Examples:
        nemo-cosmos dataset lerobot data/robot data/robot_lerobot
        nemo-cosmos dataset lerobot outputs/trial/videos/own data/generated --signals raw/held_out
    """
    from post_training.robotics.lerobot import write_lerobot

    with show_progress("Writing", "episodes", "json" if as_json else "people") as update:
        report = write_lerobot(
            episodes,
            out,
            signals=signals,
            embodiment=embodiment,
            camera=camera,
            robot=robot,
            progress=update,
        )
    if as_json:
        typer.echo(json.dumps(asdict(report)))
        return
    typer.echo(
        f"{counted(report.num_episodes, 'episode')} of {report.num_frames} frames, "
        f"{counted(report.num_tasks, 'instruction')}, cameras {', '.join(report.cameras)}, actions "
        f"'{report.embodiment}'. Written to '{report.folder}'."
    )
