"""``nemo-cosmos logs`` and ``cancel``, and the table of jobs that ``status`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.cli.kit.options import number

JobName = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job's number, a run of a sweep (4711_3), or a job's name: its newest.",
    ),
]
Rank = Annotated[
    int | None, number("The lines of this process alone.", "--rank", least=0, most=1_000_000)
]


def logs(
    job: JobName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    rank: Rank = None,
) -> None:
    """Print the output of a job, of all its ranks in one place.

    Examples:
        nemo-cosmos logs 4711
        nemo-cosmos logs 4711 -f --rank 3
    """
    from nemo_cosmos.launch.jobs.watch import job_log, state_of

    is_empty = True
    for line in job_log(job, rank, follow):
        is_empty = False
        typer.echo(line)
    if is_empty:
        state = state_of(job)
        why = f" ({state.why})" if state.why else ""
        whose = f"The job '{job}'" if rank is None else f"Rank {rank} of job '{job}'"
        typer.echo(f"{whose} has printed nothing; the job is {state.word}{why}.", err=True)


def cancel(job: JobName) -> None:
    """End a job. Training saves first; the same command resumes it later.

    Examples:
        nemo-cosmos cancel 4711
        nemo-cosmos cancel 4711_3
    """
    from nemo_cosmos.launch.jobs.watch import cancel_job

    typer.echo(f"Cancelled job {cancel_job(job)}.")


def print_jobs(rows: Sequence[JsonObject]) -> None:
    """Print a table of jobs.

    Args:
        rows: what :func:`nemo_cosmos.launch.jobs.watch.list_jobs` returned.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("job", "name", "on", "state", "progress", "speed", "left", "why or where")
    for column in table.columns:
        column.overflow, column.no_wrap = "fold", column.header not in ("name", "why or where")
    for row in rows:
        seen = row["why"] or row["nodes"]
        words = (row["job"], row["name"], row["on"], row["state"])
        table.add_row(*words, _count(row), _speed(row), _left(row), seen)
    Console().print(table)


def _count(row: JsonObject) -> str:
    if row["done"] is None:
        return ""
    return f"{row['done']:g}/{row['total']:g} {row['unit']}"


def _speed(row: JsonObject) -> str:
    return "" if row["per_s"] is None else f"{row['per_s']:.3g}/s"


def _left(row: JsonObject) -> str:
    if row["left_s"] is None:
        return ""
    minutes, seconds = divmod(round(row["left_s"]), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
