"""``nemo-cosmos launch check``: the first minutes on a new cluster."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.launching import Devices, Dryrun, Nodes, On, Where, launch
from nemo_cosmos.cli.main import CommandEntry, CommandGroup
from nemo_cosmos.exits import Exit

#: How long the first rank has for its page after another rank's failure.
PAGE_S = 10.0

LAUNCH = CommandGroup(
    """Look at a cluster before the first long run on it.

    Examples:
        nemo-cosmos launch check --on local --devices 2
        nemo-cosmos launch check --on dgx_h100 --nodes 2 --dryrun
    """,
    {
        "check": CommandEntry(
            "house.launch:check", "Commands", "Say what of a cluster is slow or wrong."
        )
    },
)


def check(
    on: On = None,
    nodes: Nodes = None,
    devices: Devices = None,
    dryrun: Dryrun = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show its output until it has ended.")
    ] = True,
) -> None:
    """Check the machines of a cluster in a few minutes, and say what is slow or wrong.

    Every rank reports its machine and computes small problems of known answers; all measure how
    fast they exchange, and take ten steps of the nano recipe. The first prints a page of verdicts.
    Ends with exit code 1 if anything is slow or wrong.

    Examples:
        nemo-cosmos launch check
        nemo-cosmos launch check --on local --devices 2
        nemo-cosmos launch check --on dgx_h100 --nodes 2 --dryrun
    """
    where = Where(on, nodes, devices, dryrun=dryrun)
    if not where.is_asked and not dryrun:
        _check_here()
        return
    from nemo_cosmos.launch import Job, Resources
    from nemo_cosmos.site import compose_site

    cluster = compose_site(where.conf)["cluster"]
    resources = Resources(nodes or 1, devices or cluster.get("gpus_per_node") or 1)
    done = launch(Job.for_command(["launch", "check"], resources), cluster, where)
    numbers = [started.number for started in done if started.number is not None]
    for number in numbers if wait else ():
        _follow(number)


def _check_here() -> None:
    """Check the machines of this job; this process is one of its ranks, or the only one."""
    from nemo_cosmos.launch.check.measure import machine_name
    from nemo_cosmos.launch.check.run import check_machines_of_job
    from nemo_cosmos.launch.check.verdicts import Word, page
    from nemo_cosmos.platform.ranks import is_first_process
    from nemo_cosmos.site import compose_site

    verdicts = check_machines_of_job(compose_site())
    if is_first_process():
        typer.echo(page(verdicts))
        if any(verdict.word is not Word.FINE for verdict in verdicts):
            raise typer.Exit(Exit.FAILED)
    elif verdicts[-1].word is Word.WRONG:
        typer.echo(f"{machine_name()}: {verdicts[-1].text}", err=True)
        # The first rank may wait for this one, which its launcher ends when a rank fails; but where
        # it knows of the failure, it prints its page first.
        time.sleep(PAGE_S)
        raise typer.Exit(Exit.FAILED)


def _follow(number: str) -> None:
    """Show the output of a job until it has ended, and end as it did."""
    from nemo_cosmos.launch.jobs.state import Word
    from nemo_cosmos.launch.jobs.watch import job_log, state_of

    for line in job_log(number, follow=True):
        typer.echo(line)
    state = state_of(number)
    if state.word is not Word.DONE:
        typer.echo(f"The job '{number}' is {state.word}: {state.why}", err=True)
        raise typer.Exit(Exit.FAILED)
