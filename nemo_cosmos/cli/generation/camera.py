"""``nemo-cosmos camera``: make a camera's path from moves or keys, and draw any path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.options import number, parse_size
from nemo_cosmos.cli.main import GENERATION, CommandEntry, CommandGroup
from nemo_cosmos.controls import CAMERA, Values
from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.storage.outputs import check_output_file

CAMERA_GROUP = CommandGroup(
    """Make the path of a camera, which steers a model with the control 'camera', or look at one.

    Examples:
        nemo-cosmos camera move pan.camera.npz --move pan:30
        nemo-cosmos camera show pan.camera.npz
        nemo-cosmos predict my_world --input start.png --control camera=pan.camera.npz
    """,
    {
        "move": CommandEntry("generation.camera:move", GENERATION, "Make a path of moves or keys."),
        "show": CommandEntry("generation.camera:show", GENERATION, "Draw the path of a file."),
    },
)

Picture = Annotated[
    Path | None, typer.Option(help="The PNG to draw; by default beside the file, as NAME.png.")
]


def move(
    out: Annotated[Path, typer.Argument(help="The .npz to write, such as pan.camera.npz.")],
    moves: Annotated[
        list[str] | None,
        typer.Option(
            "--move",
            "-m",
            help="MOVE:AMOUNT[:STEPS]: pan, tilt, roll, orbit in degrees; dolly, truck, pedestal "
            "in metres. Joined by + they go on at once. Repeatable: one after the other.",
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            help="Keys held, a step each, such as 'w8 l4': w s dolly, a d truck, r f pedestal, j l "
            "pan, i k tilt, u o roll; . waits."
        ),
    ] = None,
    frames: Annotated[int, number("Frames of the video.", least=1, most=100000)] = 33,
    size: Annotated[str, typer.Option(help="Height x width of the video in pixels.")] = "96x128",
    fov: Annotated[float, number("Horizontal field of view in degrees.", above=0, most=178)] = 60.0,
    like: Annotated[
        Path | None,
        typer.Option(help="A camera.npz whose lens and size to take, instead of --fov and --size."),
    ] = None,
    distance: Annotated[
        float, number("Metres from the camera to the middle of an orbit.", above=0, most=1e5)
    ] = 1.0,
    step_m: Annotated[float, number("Metres of a key in a step.", above=0, most=1000)] = 0.05,
    step_deg: Annotated[float, number("Degrees of a key in a step.", above=0, most=180)] = 1.0,
    picture: Picture = None,
) -> None:
    """Make the path of a camera from moves or keys, and a picture of it.

    A step leads from a frame to the next. Moves without a number of steps share those that the
    others leave. A model was trained with a lens and a scale: --like takes the lens of its data.

    Examples:
        nemo-cosmos camera move pan.camera.npz --move pan:30 --frames 33 --size 96x128
        nemo-cosmos camera move arc.camera.npz --move orbit:40+pedestal:0.2 --distance 2
        nemo-cosmos camera move walk.camera.npz --keys "w8 l6 w8 ." --step-m 0.1 --fov 70
        nemo-cosmos camera move two.camera.npz --move dolly:0.5:8 --move tilt:10 --like one.camera.npz
    """  # noqa: E501 - a command stays on one line
    from post_training.camera.moves import (
        Speeds,
        camera_path,
        camera_signal,
        parse_keys,
        parse_move,
    )

    if (moves is None) == (keys is None):
        raise ConfigError(
            "A camera's path is made of --move or of --keys. Give one of the two, such as "
            "--move pan:30."
        )
    path = [parse_move(text) for text in moves or ()]
    path += parse_keys(keys, Speeds(step_m, step_deg)) if keys is not None else []
    poses_T44 = camera_path(path, frames, distance)
    values: Values = camera_signal(poses_T44, parse_size(size), fov)
    if like is not None:
        one = _read(like)
        lens = {name: array for name, array in one.items() if name != "poses"}
        lens["intrinsics"] = one["intrinsics"][:1].repeat(frames, axis=0)
        values = {"poses": poses_T44, **lens}
    CAMERA.check(values, frames)
    if out.suffix != ".npz":
        raise ConfigError(f"'{out}' is no .npz file. Name one, such as '{out}.camera.npz'.")
    _write(out, values, picture)


def show(
    file: Annotated[Path, typer.Argument(help="A camera.npz.")],
    picture: Picture = None,
) -> None:
    """Draw the path of a camera from above and from the side.

    Examples:
        nemo-cosmos camera show pan.camera.npz
        nemo-cosmos camera show data/robot/episode_0.camera.npz --picture path.png
    """
    values = _read(file)
    _draw(file, values, picture)


def _read(file: Path) -> Values:
    """Read and check a camera file."""
    values = CAMERA.values(file)
    poses = values.get("poses")
    num_frames = len(poses) if poses is not None and poses.ndim else 0
    CAMERA.check(values, num_frames, f"'{file}'")
    return values


def _write(out: Path, values: Values, picture: Path | None) -> None:
    from nemo_cosmos.controls import encode_arrays

    check_output_file(out)
    with atomic_path(out) as temporary:
        temporary.write_bytes(encode_arrays(CAMERA.suffix, values))
    typer.echo(f"'{out}': a camera of {counted(len(values['poses']), 'frame')}.")
    _draw(out, values, picture)


def _draw(file: Path, values: Values, picture: Path | None) -> None:
    from post_training.camera.picture import path_png

    target = check_output_file(picture or file.with_suffix(".png"))
    with atomic_path(target) as temporary:
        temporary.write_bytes(path_png(values, file.name))
    typer.echo(f"'{target}': its path from above and from the side.")
