"""Jobs one after the other, each only if the one before has ended well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nemo_cosmos.errors import NemoCosmosError
from nemo_cosmos.launch.job import ChainLauncher, Job, Launcher, Started, command_of
from nemo_cosmos.launch.select import launcher_for


def run_chain(jobs: Sequence[Job], cluster: Mapping[str, Any]) -> list[Started]:
    """Run jobs in order, or queue them so that they run in order.

    All are checked before the first starts. Where a queue refuses one, those before it are taken
    back: half a chain helps nobody.

    Args:
        jobs: the jobs.
        cluster: the site's ``cluster`` group.

    Returns:
        what became of each; of all together where the queue takes them as one.

    Raises:
        ConfigError: one of them cannot run there.
        JobFailedError: one that ran here ended with an error.
    """
    launchers = _checked(jobs, cluster)
    if isinstance(launchers[0], ChainLauncher):
        return [launchers[0].run_chain(jobs)]
    done: list[tuple[Launcher, Started]] = []
    before: str | None = None
    for launcher, job in zip(launchers, jobs, strict=True):
        try:
            started = launcher.run(replace(job, after=before) if before else job)
        except NemoCosmosError:
            for earlier, queued in reversed(done):
                earlier.withdraw(queued)
            raise
        done.append((launcher, started))
        before = started.number or job.name
    return [started for _, started in done]


def chain_scripts(jobs: Sequence[Job], cluster: Mapping[str, Any]) -> list[str]:
    """Return the script of each job, or one of all where the queue takes them as one.

    Raises:
        ConfigError: one of them cannot run there.
    """
    launchers = _checked(jobs, cluster)
    if isinstance(launchers[0], ChainLauncher):
        return [launchers[0].chain_script(jobs)]
    return [launcher.script(job) for launcher, job in zip(launchers, jobs, strict=True)]


def _checked(jobs: Sequence[Job], cluster: Mapping[str, Any]) -> list[Launcher]:
    if len(jobs) > 1:
        for job in jobs:
            command_of(job)  # a recipe that only Python knows has no place in a chain
    launchers = [launcher_for(job, cluster) for job in jobs]
    for launcher, job in zip(launchers, jobs, strict=True):
        launcher.check(job)
    return launchers
