"""``nemo-cosmos dataset inspect``: what the numbers of a robot data set are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_cosmos.cli.kit.options import AsJson, number
from nemo_cosmos.cli.main import Exit
from nemo_cosmos.errors import counted

if TYPE_CHECKING:
    from post_training.robotics.inspection import Inspection


def inspect(
    source: Annotated[
        str,
        typer.Argument(help="Folder of episodes, Bridge or LeRobot data as shipped, or shards."),
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
    as_json: AsJson = False,
) -> None:
    """Measure the actions of a robot data set, and look for the classic faults.

    These are pictures turned by 180 degrees, the gripper's sign, degrees for radians, values for
    changes, another order of axes, other units. Each is looked for in the data: actions are
    compared with the change of the states, the motion in the pictures with the motion of the
    gripper. What the data cannot show is asked for. With a fault, the exit code is 1.

    Examples:
        nemo-cosmos dataset inspect data/bridge --embodiment bridge_7
        nemo-cosmos dataset inspect data/episodes --embodiment robots.yaml:my_arm --out my_arm.json
    """
    from post_training.robotics.inspection import inspect_dataset

    report = inspect_dataset(source, embodiment, limit=limit, with_video=not without_video)
    if out is not None:
        report.write(out)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        _print(report, out)
    if report.faults:
        raise typer.Exit(Exit.FAILED)


def _print(report: Inspection, out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from nemo_cosmos.cli.data.embodiment_table import embodiment_title

    console = Console()
    console.print(embodiment_title(report.embodiment), markup=False, highlight=False)
    numbers = Table("number", "units", "mean", "std", "least", "1 %", "99 %", "most")
    for one in report.numbers:
        values = (one.mean, one.std, one.least, one.p01, one.p99, one.most)
        numbers.add_row(one.name, one.units, *(f"{value:.4g}" for value in values))
    console.print(numbers)
    marks = {"ok": "ok", "found": "FOUND", "ask": "asks"}
    findings = Table("", "fault", "numbers", "measured", "what to do")
    for each in sorted(report.findings, key=lambda each: ("found", "ask", "ok").index(each.status)):
        findings.add_row(marks[each.status], each.fault, each.about, each.measured, each.fix)
    console.print(findings)
    read = f"{counted(report.num_actions, 'action')} of {counted(report.num_recordings, 'episode')}"
    asked = sum(each.status == "ask" for each in report.findings)
    typer.echo(
        f"{read}: {counted(len(report.faults), 'fault')}, {counted(asked, 'question')}."
        + ("" if out is None else f" Written to '{out}'.")
    )
