"""``nemo-cosmos status``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from nemo_cosmos.cli.options import AsJson

# A run that wrote its curves less than this ago is taken to be running.
RUNNING_S = 120.0


def command(
    outputs: Annotated[
        Path | None, typer.Argument(help="Folder of runs; the site's outputs by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the runs below a folder (step, loss, newest checkpoint, state), and what guards refused.

    Refusals are those in the site's audit log, counted by category.

    Examples:
        nemo-cosmos status
        nemo-cosmos status outputs/quickstart --json
    """
    from nemo_cosmos.cli.guard import site_log
    from nemo_cosmos.guardrails.audit import count_violations

    named = outputs
    if outputs is None:
        from nemo_cosmos.site import compose_site

        outputs = Path(compose_site()["storage"]["outputs"])
    # Before the first training there is no folder of outputs, and that is no error.
    rows = list_runs(outputs) if named is not None or outputs.is_dir() else []
    violations = count_violations(site_log())
    if as_json:
        typer.echo(json.dumps({"runs": rows, "violations": violations}, indent=2))
        return
    if rows:
        _print_table(rows)
    else:
        typer.echo(f"There are no runs in '{outputs}'.")
    if violations:
        told = ", ".join(f"{category} {count}" for category, count in violations.items())
        typer.echo(f"Refused by guards: {told}.")


def list_runs(outputs: Path) -> list[dict[str, Any]]:
    """Every run below a folder, the most recently changed first.

    Args:
        outputs: folder of runs.

    Returns:
        ``{"run", "state", "step", "loss", "val_loss", "checkpoint", "export"}`` each; ``state`` is
        "finished", "running" or "stopped".

    Raises:
        MissingFileError: there is no such folder.
    """
    from nemo_cosmos.errors import MissingFileError
    from nemo_cosmos.training.run_folder import find_runs

    if not outputs.is_dir():
        raise MissingFileError(
            f"There is no folder '{outputs}', so there are no runs to show. Give the folder that "
            "training writes to, or train first."
        )
    return [_describe(run) for run in find_runs(outputs)]


def _describe(run: Path) -> dict[str, Any]:
    from nemo_cosmos.training.run_folder import (
        EXPORT_FOLDER,
        METRICS_FILE,
        list_checkpoints,
        read_curves,
        read_finished,
    )

    curves, checkpoints, finished = read_curves(run), list_checkpoints(run), read_finished(run)
    metrics = run / METRICS_FILE
    fresh = metrics.is_file() and time.time() - metrics.stat().st_mtime < RUNNING_S
    export = run / EXPORT_FOLDER
    return {
        "run": str(run),
        "state": "finished" if finished else "running" if fresh else "stopped",
        "step": finished["step"] if finished else curves[-1]["step"] if curves else 0,
        "loss": _last(curves, "loss"),
        "val_loss": _last(curves, "val_loss"),
        "checkpoint": str(checkpoints[-1][0]) if checkpoints else None,
        "export": str(export) if export.is_dir() else None,
    }


def _last(curves: list[dict[str, Any]], name: str) -> float | None:
    return next((line[name] for line in reversed(curves) if line.get(name) is not None), None)


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "state", "step", "loss", "newest checkpoint", "export")
    for row in rows:
        checkpoint = Path(row["checkpoint"]).name if row["checkpoint"] else ""
        loss = "" if row["loss"] is None else f"{row['loss']:.4f}"
        exported = "yes" if row["export"] else ""
        table.add_row(row["run"], row["state"], str(row["step"]), loss, checkpoint, exported)
    Console().print(table)
