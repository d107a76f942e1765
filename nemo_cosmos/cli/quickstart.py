"""``nemo-cosmos quickstart``: the whole road at nano size, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nemo_cosmos.quickstart.runner import Step

DEFAULT_FOLDER = Path("outputs/quickstart")


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = DEFAULT_FOLDER,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="A few steps of everything: to see that it runs.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what is there and begin.")] = False,
) -> None:
    """Walk the whole road at nano size and write a report.

    Renders robot episodes in a simulator, curates them and real video into shards, trains a video
    tokenizer and a world model, post-trains it on the actions, generates video from words, a
    first frame and actions through the guards, and compares with held-out episodes. Takes about a
    quarter of an hour on two CPU cores. Run it again after a stop: finished parts are re-used.

    Examples:
        nemo-cosmos quickstart
        nemo-cosmos quickstart --out /data/quickstart
        nemo-cosmos quickstart --tiny --out /tmp/try
    """
    import shutil

    from nemo_cosmos.cli.main import run_command
    from nemo_cosmos.quickstart.report import write_report
    from nemo_cosmos.quickstart.road import walk
    from nemo_cosmos.quickstart.settings import QuickstartSettings

    if fresh:
        shutil.rmtree(out, ignore_errors=True)
    settings = QuickstartSettings.tiny() if tiny else QuickstartSettings()
    records = walk(out, settings, run_command, _announce)
    from nemo_cosmos.quickstart.summary import build_report

    write_report(build_report(out, settings, records), out / "report.html")
    total_s = sum(record.duration_s for record in records)
    typer.echo(f"Done in {total_s / 60:.1f} minutes. Open {out / 'report.html'}")


def _announce(number: int, total: int, step: Step, reused: bool) -> None:
    from rich.console import Console

    note = " [dim](done before)[/dim]" if reused else ""
    Console(stderr=True).rule(f"[bold]{number}/{total}  {step.title}[/bold]{note}", align="left")
