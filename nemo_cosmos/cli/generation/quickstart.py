"""``nemo-cosmos quickstart``: every step at nano size, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nemo_cosmos.quickstart.runner import Step

DEFAULT_FOLDER = Path("outputs/quickstart")


def command(
    out: Annotated[
        Path, typer.Option(help="Folder for everything that it makes.")
    ] = DEFAULT_FOLDER,
    tiny: Annotated[
        bool,
        typer.Option("--tiny", help="Train for a few steps only, to see that all runs."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete earlier results and start over.")
    ] = False,
) -> None:
    """Run every step at nano size, from a simulated robot to a world model, and write a report.

    Renders robot episodes, curates them and real video into shards, trains a video tokenizer and a
    world model, post-trains it on the robot's actions, generates video from prompts, first frames
    and actions through the guards, and compares it with held-out episodes. Takes about a quarter
    of an hour on two fast CPU cores. Run it again after a stop: finished steps are reused.

    Examples:
        nemo-cosmos quickstart
        nemo-cosmos quickstart --out /data/quickstart
        nemo-cosmos quickstart --tiny --out /tmp/try
    """
    import shutil

    from nemo_cosmos.cli.main import run_command
    from nemo_cosmos.quickstart.report import write_report
    from nemo_cosmos.quickstart.road import check_own_folder, walk
    from nemo_cosmos.quickstart.settings import QuickstartSettings

    if fresh:
        check_own_folder(out)
        shutil.rmtree(out, ignore_errors=True)
    settings = QuickstartSettings.tiny() if tiny else QuickstartSettings()
    records = walk(out, settings, run_command, _announce)
    from nemo_cosmos.quickstart.summary import build_report

    write_report(build_report(out, settings, records), out / "report.html")
    total_s = sum(record.duration_s for record in records)
    typer.echo(f"Done in {total_s / 60:.1f} minutes. Open {out / 'report.html'}")


def _announce(number: int, total: int, step: Step, reused: bool) -> None:
    from rich.console import Console

    note = " [dim](finished earlier)[/dim]" if reused else ""
    Console(stderr=True).rule(f"[bold]{number}/{total}  {step.title}[/bold]{note}", align="left")
