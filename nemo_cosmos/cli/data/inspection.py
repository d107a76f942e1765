"""``nemo-cosmos dataset inspect``: what the numbers of a robot's or camera's data set are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_cosmos.cli.kit.options import AsJson, number
from nemo_cosmos.cli.main import Exit
from nemo_cosmos.errors import ConfigError, counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from post_training.camera.inspection import CameraInspection
    from post_training.robotics.inspection import Inspection


def inspect(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of episodes, Bridge or LeRobot data as shipped, or shards; or cameras."
        ),
    ],
    embodiment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the actions are said to be: a name of the table, or FILE.yaml:NAME; by "
            "default what their number suggests.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file to write; training takes it as the embodiment."),
    ] = None,
    limit: Annotated[int | None, number("The most episodes to read.", least=1, most=10**9)] = None,
    without_video: Annotated[
        bool, typer.Option("--without-video", help="Do not look at the videos.")
    ] = False,
    cameras: Annotated[
        bool, typer.Option("--cameras", help="Look at the cameras of data that have actions, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure the actions or the cameras of a data set, and look for the classic faults.

    These are pictures turned by 180 degrees, the gripper's sign, degrees for radians, values for
    changes, another order of axes, other units. Each is looked for in the data: actions are
    compared with the change of the states, the motion in the pictures with the motion of the
    gripper. What the data cannot show is asked for. With a fault, the exit code is 1.

    Of cameras (recordings with camera.npz and no actions, COLMAP, transforms.json, RealEstate10K)
    these are poses that are no rotations, other axes, matrices the other way round, and units.

    Examples:
        nemo-cosmos dataset inspect data/bridge --embodiment bridge_7
        nemo-cosmos dataset inspect data/episodes --embodiment robots.yaml:my_arm --out my_arm.json
        nemo-cosmos dataset inspect data/recordings
    """
    from post_training.camera.inspection import holds_cameras, inspect_cameras

    report: Inspection | CameraInspection
    if cameras or (embodiment is None and holds_cameras(source)):
        if embodiment is not None:
            raise ConfigError(
                "--embodiment says what actions are, and --cameras looks at cameras. Leave one of "
                "the two out."
            )
        report = inspect_cameras(source, limit=limit, with_video=not without_video)
    else:
        report = _inspect_actions(source, embodiment, limit, not without_video)
    if out is not None:
        report.write(out)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        _print(report, out)
    if report.faults:
        raise typer.Exit(Exit.FAILED)


def _inspect_actions(
    source: str, embodiment: str | None, limit: int | None, with_video: bool
) -> Inspection:
    from post_training.robotics.inspection import inspect_dataset

    return inspect_dataset(source, embodiment, limit=limit, with_video=with_video)


def _print(report: Inspection | CameraInspection, out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from post_training.camera.inspection import CameraInspection

    console = Console()
    if isinstance(report, CameraInspection):
        numbers = Table("of a clip", "units", "least", "median", "most")
        for each in report.numbers:
            three = (each.least, each.median, each.most)
            numbers.add_row(each.name, each.units, *(f"{value:.4g}" for value in three))
        of = counted(report.num_frames, "frame")
    else:
        numbers = _numbers_of(report, console)
        of = counted(report.num_actions, "action")
    console.print(numbers)
    marks = {"ok": "ok", "found": "FOUND", "ask": "asks"}
    findings = Table("", "fault", "numbers", "measured", "what to do")
    for one in sorted(report.findings, key=lambda one: ("found", "ask", "ok").index(one.status)):
        findings.add_row(marks[one.status], one.fault, one.about, one.measured, one.fix)
    console.print(findings)
    read = f"{of} of {counted(report.num_recordings, 'episode')}"
    asked = sum(one.status == "ask" for one in report.findings)
    typer.echo(
        f"{read}: {counted(len(report.faults), 'fault')}, {counted(asked, 'question')}."
        + ("" if out is None else f" Written to '{out}'.")
    )


def _numbers_of(report: Inspection, console: Console) -> Table:
    """The statistics of a robot's numbers, below what they are said to be."""
    from rich.table import Table

    from nemo_cosmos.cli.data.embodiment_table import embodiment_title

    console.print(embodiment_title(report.embodiment), markup=False, highlight=False)
    numbers = Table("number", "units", "mean", "std", "least", "1 %", "99 %", "most")
    for one in report.numbers:
        values = (one.mean, one.std, one.least, one.p01, one.p99, one.most)
        numbers.add_row(one.name, one.units, *(f"{value:.4g}" for value in values))
    return numbers
