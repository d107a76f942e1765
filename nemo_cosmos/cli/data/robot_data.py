"""``nemo-cosmos convert``: data sets of others to the layout that curation reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_cosmos.cli.data.converted import say_converted
from nemo_cosmos.cli.kit.options import AsJson, listed, number, parse_size
from nemo_cosmos.cli.main import DATA, CommandEntry, CommandGroup
from nemo_cosmos.progress import show_progress

if TYPE_CHECKING:
    from post_training.conversion import ConversionReport

CONVERT = CommandGroup(
    """Convert a data set to videos with instructions and actions, or with cameras, beside them.

    [bold]nemo-cosmos curate[/bold] cuts these files along with the video.

    Examples:
        nemo-cosmos convert bridge data/bridge data/bridge_episodes
        nemo-cosmos convert lerobot data/aloha data/aloha_episodes --camera top
        nemo-cosmos convert rlds data/bridge_dataset data/bridge_episodes --fps 5
        nemo-cosmos convert cameras data/garden data/recordings
        nemo-cosmos convert driving data/clip data/drives --view front,left --calibration three
    """,
    {
        "bridge": CommandEntry("data.robot_data:bridge", DATA, "Convert a Bridge data set."),
        "lerobot": CommandEntry("data.robot_data:lerobot", DATA, "Convert a LeRobot data set."),
        "rlds": CommandEntry("data.robot_data:rlds", DATA, "Convert an RLDS data set."),
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
Cameras = Annotated[
    list[str] | None,
    typer.Option(
        help="Camera to take, such as 'top'; all by default. Repeatable: top,wrist in order."
    ),
]
StatedAction = Annotated[
    bool,
    typer.Option(
        "--as-action",
        help="The seven numbers are changes of the gripper's pose seen from the gripper, and "
        "its opening last: take them as the action control.",
    ),
]
StatedEmbodiment = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What the actions are instead: a name of the table, or FILE.yaml:NAME.",
    ),
]
#: What a fixed camera and short episodes ask of the filters.
CURATE = "--split none --min-clip-s 0.5 --min-motion 0 --min-patch-motion 0 --skip all"


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
    camera: Cameras = None,
    as_action: StatedAction = False,
    embodiment: StatedEmbodiment = None,
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
    _say_views(report, as_json)


def rlds(
    source: Annotated[Path, typer.Argument(help="The folder of 'features.json' and *.tfrecord*.")],
    out: Out,
    fps: Annotated[float, number("Rate of the robot, which no file says.", above=0, most=1000)],
    size: Size = None,
    camera: Cameras = None,
    as_action: StatedAction = False,
    embodiment: StatedEmbodiment = None,
    as_json: AsJson = False,
) -> None:
    """Convert an RLDS data set (TFRecord files, as Open X-Embodiment ships them).

    Each episode becomes what 'convert lerobot' makes: an mp4 for each camera, a JSON with its
    instruction, and its actions and states. Depth maps are no views. Actions of several parts
    become one row, the parts in the order of their names. TensorFlow is not needed.

    Examples:
        nemo-cosmos convert rlds data/bridge_dataset/1.0.0 data/episodes --fps 5 --camera image_0
        nemo-cosmos convert rlds data/fractal data/episodes --fps 3 --embodiment robots.yaml:rt_1
    """
    from post_training.robotics.rlds import convert_rlds

    with show_progress("Converting", "episodes", "json" if as_json else "people") as update:
        report = convert_rlds(
            source, out, fps, _size(size), listed(camera), as_action, update, embodiment
        )
    _say_views(report, as_json)


def _say_views(report: ConversionReport, as_json: bool) -> None:
    """Say what became of a data set whose recordings may have several cameras."""
    following = ("dataset shard", "") if report.num_views > 1 else ("curate", CURATE)
    say_converted(report, "episode", *following, as_json)


def _size(text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_size(text)
