"""``nemo-cosmos convert driving``: synchronous videos of a car's cameras to drives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.data.converted import say_converted
from nemo_cosmos.cli.kit.options import AsJson, listed, number, parse_size
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.progress import show_progress


def driving(
    source: Annotated[Path, typer.Argument(help="Folder with a video of each view.")],
    out: Annotated[Path, typer.Argument(help="Folder for the drives; may contain some already.")],
    view: Annotated[
        list[str],
        typer.Option(
            help="A view, as the videos' names end; VIEW=CAMERA where the calibration has another "
            "name. Repeatable; the order is the model's."
        ),
    ],
    calibration: Annotated[
        str, typer.Option(help="JSON file, a rig of conf/rigs.yaml, or FILE.yaml:NAME.")
    ],
    trajectory: Annotated[
        Path | None, typer.Option(help="The car's path: (T, 3) positions or (T, 4, 4) poses, .npy.")
    ] = None,
    layout: Annotated[
        Path | None, typer.Option(help="Folder with a layout video (HD map) of each view.")
    ] = None,
    caption: Annotated[
        str, typer.Option(help="What is seen.")
    ] = "A drive, seen by the cameras of a car.",
    size: Annotated[
        str | None, typer.Option(help="Height x width to resize frames to; by default unchanged.")
    ] = None,
    frames: Annotated[
        str | None, typer.Option(help="FIRST:END, to take a part of the videos.")
    ] = None,
    drive_frames: Annotated[
        int, number("Most frames of a drive; longer videos become several.", least=1, most=100000)
    ] = 121,
    mount: Annotated[
        str, typer.Option(help="X,Y,Z in metres of the first camera of a JSON on the car.")
    ] = "0,0,0",
    as_json: AsJson = False,
) -> None:
    """Convert synchronous videos of a car's cameras, with their calibration and the car's path.

    The videos must have one length, rate and size. A calibration is a JSON with pose_CAMERA
    (camera to the first camera) and intrinsics_CAMERA (f-theta or pinhole), or a rig of the table.
    Without a path, the drives train models that no path steers. Everything is checked before
    anything is written.

    Examples:
        nemo-cosmos convert driving data/clip data/drives --view front,left,right --calibration three
        nemo-cosmos convert driving clip out --view front,front_left=cross_left --calibration av.json --trajectory ego.npy --size 352x640
    """  # noqa: E501 - a command stays on one line
    from post_training.driving.conversion import RigReading, convert_rig

    cameras = {}
    for name in listed(view):
        key, _, camera = name.partition("=")
        if key in cameras:
            raise ConfigError(f"--view names '{key}' twice; expected each view once.")
        cameras[key] = camera or key
    reading = RigReading(
        cameras,
        calibration,
        None if trajectory is None else str(trajectory),
        None if layout is None else str(layout),
        caption,
        None if size is None else parse_size(size),
        None if frames is None else _span(frames),
        drive_frames,
        _place(mount),
    )
    with show_progress("Converting", "drives", "json" if as_json else "people") as update:
        report = convert_rig(source, out, reading, update)
    say_converted(report, "drive", "dataset shard", "", as_json)


def _span(text: str) -> tuple[int, int]:
    first, _, end = text.partition(":")
    if not (first.isdigit() and end.isdigit()):
        raise ConfigError(f"--frames is '{text}'; expected FIRST:END, such as 0:121.")
    return int(first), int(end)


def _place(text: str) -> tuple[float, ...]:
    try:
        place = tuple(float(part) for part in text.split(","))
    except ValueError:
        place = ()
    if len(place) != 3:
        raise ConfigError(f"--mount is '{text}'; expected X,Y,Z in metres, such as 1.7,0,1.4.")
    return place
