"""``nemo-cosmos status``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.cli.house.jobs import print_jobs
from nemo_cosmos.cli.kit.options import AsJson


def command(
    outputs: Annotated[
        Path | None, typer.Argument(help="Folder of runs; the site's outputs by default.")
    ] = None,
    machine: Annotated[
        bool,
        typer.Option(
            "--machine",
            help="Show this machine instead: device, driver, versions, kernels, what works on it "
            "and what to install.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show jobs of every launcher, the runs below a folder, and what guards refused.

    Of a job: its state, how far it is, its speed, the time left, and why it waits; those of the
    last week. Of a run: step, loss and newest checkpoint. Refusals are those in the site's audit
    log, counted by category.

    Examples:
        nemo-cosmos status
        nemo-cosmos status outputs/quickstart --json
        nemo-cosmos status --machine
    """
    if machine:
        _show_machine(as_json)
        return
    from nemo_cosmos.guardrails.audit import count_violations
    from nemo_cosmos.guardrails.site import site_log
    from nemo_cosmos.launch.jobs.watch import list_jobs
    from nemo_cosmos.training.run_folder import describe_runs

    named = outputs
    if outputs is None:
        from nemo_cosmos.site import compose_site

        outputs = Path(compose_site()["storage"]["outputs"])
    # Before the first training there is no folder of outputs, which is not an error.
    jobs = list_jobs()
    rows = describe_runs(outputs) if named is not None or outputs.is_dir() else []
    violations = count_violations(site_log())
    if as_json:
        typer.echo(json.dumps({"jobs": jobs, "runs": rows, "violations": violations}, indent=2))
        return
    if jobs:
        print_jobs(jobs)
    if rows:
        _print_table(rows)
    else:
        typer.echo(f"There are no runs in '{outputs}'.")
    if violations:
        counts = ", ".join(f"{category} {count}" for category, count in violations.items())
        typer.echo(f"Refused by guards: {counts}.")


def _show_machine(as_json: bool) -> None:
    from nemo_cosmos.platform.machine import describe_machine

    found = describe_machine(encodes=_encodes_on_gpu)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    kernels, findings = found.pop("kernels", None), found.pop("findings")
    del found["gpu"]  # the findings say it in words
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        typer.echo(f"{name}: {value}")
    if kernels is not None:
        typer.echo(f"kernels: {kernels['setting']}; elementwise steps {kernels['elementwise']}")
        for problem, row in kernels["problems"].items():
            times = f"torch {row['torch_ms']} ms, oneDNN {row['onednn_ms']} ms"
            typer.echo(f"  {problem}: {row['library']} ({times})")
    for finding in findings:
        mark = {True: "works", False: "does not work", None: "not used"}[finding["works"]]
        typer.echo(f"{finding['name']}: {mark}: {finding['text']}")


def _encodes_on_gpu() -> bool:
    from nemo_cosmos.video.encoders import can_open

    return can_open("h264_nvenc")


def _print_table(rows: list[JsonObject]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "state", "step", "loss", "newest checkpoint", "export")
    for row in rows:
        checkpoint = Path(row["checkpoint"]).name if row["checkpoint"] else ""
        loss = "" if row["loss"] is None else f"{row['loss']:.4f}"
        exported = "yes" if row["export"] else ""
        table.add_row(row["run"], row["state"], str(row["step"]), loss, checkpoint, exported)
    Console().print(table)
