"""``nemo-cosmos convert``: data sets of others to the layout that curation reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.data.converted import say_converted
from nemo_cosmos.cli.kit.options import AsJson, listed, number, parse_size
from nemo_cosmos.cli.main import DATA, CommandEntry, CommandGroup
from nemo_cosmos.progress import show_progress

CONVERT = CommandGroup(
    """Convert a data set to videos with instructions and actions, or with cameras, beside them.

    [bold]nemo-cosmos curate[/bold] cuts these files along with the video.

    Examples:
        nemo-cosmos convert bridge data/bridge data/bridge_episodes
        nemo-cosmos convert lerobot data/aloha data/aloha_episodes --camera top
        nemo-cosmos convert cameras data/garden data/recordings
        nemo-cosmos convert driving data/clip data/drives --view front,left --calibration three
    """,
    {
        "bridge": CommandEntry("data.robot_data:bridge", DATA, "Convert a Bridge data set."),
        "lerobot": CommandEntry("data.robot_data:lerobot", DATA, "Convert a LeRobot data set."),
        "cameras": CommandEntry(
            "data.cameras:cameras", DATA, "Convert COLMAP, transforms.json, RealEstate10K."
        ),
        "driving": CommandEntry(
            "data.driving:driving", DATA, "Convert synchronous videos of a car's cameras."
        ),
    },
)

Out = Annotated[Path, typer.Argument(help="Folder for the episodes; may contain some already.")]
Size = Annotated[
    str | None, typer.Option(help="Height x width to resize frames to; by default unchanged.")
]
#: What a fixed camera and short episodes ask of the filters.
CURATE = "--split none --min-clip-s 0.5 --min-motion 0 --min-patch-motion 0 --min-cosine 1"


def bridge(
    source: Annotated[Path, typer.Argument(help="The folder above 'annotation' and 'videos'.")],
    out: Out,
    size: Size = None,
    fps: Annotated[
        float, number("Rate of the robot; the video files claim 3.", above=0, most=1000)
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Convert a Bridge data set: annotation/SPLIT/ID.json and videos/SPLIT/ID/rgb.mp4.

    Each recording becomes an mp4 at its true rate, a JSON with its instruction, and its 7-D actions
    (change of the gripper's pose seen from the gripper, opening last; the first six times 20) and
    states as npy. Recordings whose actions contradict their states are left out and listed. A
    second run makes what is missing.

    Examples:
        nemo-cosmos convert bridge data/bridge data/bridge_episodes
        nemo-cosmos convert bridge data/bridge data/small --size 240x320 --json
    """
    from post_training.robotics.bridge import convert_bridge

    with show_progress("Converting", "recordings", "json" if as_json else "people") as update:
        report = convert_bridge(source, out, _size(size), fps, update)
    say_converted(report, "episode", "curate", CURATE, as_json)


def lerobot(
    source: Annotated[Path, typer.Argument(help="The folder above 'meta', 'data' and 'videos'.")],
    out: Out,
    size: Size = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            help="Camera to take, such as 'top'; all by default. Repeatable: top,wrist in order."
        ),
    ] = None,
    as_action: Annotated[
        bool,
        typer.Option(
            "--as-action",
            help="The seven numbers are changes of the gripper's pose seen from the gripper, and "
            "its opening last: take them as the action control.",
        ),
    ] = False,
    embodiment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the actions are instead: a name of the table, or FILE.yaml:NAME.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a LeRobot data set of version 2.0, 2.1 or 3.0; needs pyarrow.

    Each episode becomes an mp4 at the data set's rate for each camera (NAME.mp4, NAME.VIEW.mp4 of
    the further ones), a JSON with its task and the names of its numbers, and its actions and
    states, a row for each frame, as robot_action.npy and robot_state.npy. With --as-action or
    --embodiment the actions are written as action.npy, which the action-conditioned models take.
    Curation takes one camera (--camera), 'dataset shard' several. Damaged episodes are left out and
    listed. A second run makes what is missing.

    Examples:
        nemo-cosmos convert lerobot data/aloha data/aloha_episodes --camera top
        nemo-cosmos convert lerobot data/aloha data/aloha_views --camera top,left,right
        nemo-cosmos convert lerobot data/bridge_lerobot data/episodes --as-action --size 240x320
        nemo-cosmos convert lerobot data/aloha data/episodes --embodiment robots.yaml:aloha_14
    """
    from post_training.robotics.lerobot import convert_lerobot

    with show_progress("Converting", "episodes", "json" if as_json else "people") as update:
        report = convert_lerobot(
            source, out, _size(size), listed(camera), as_action, update, embodiment=embodiment
        )
    following = ("dataset shard", "") if report.num_views > 1 else ("curate", CURATE)
    say_converted(report, "episode", *following, as_json)


def _size(text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_size(text)
