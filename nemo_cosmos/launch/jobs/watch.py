"""All jobs that were started from this account, whatever launcher took them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError, NemoCosmosError
from nemo_cosmos.launch.jobs.local import LocalWatcher
from nemo_cosmos.launch.jobs.progress import progress_of
from nemo_cosmos.launch.jobs.record import JobRecord, find_job, read_records
from nemo_cosmos.launch.jobs.state import JobState, Watcher, Word
from nemo_cosmos.launch.kubernetes.states import KubernetesWatcher
from nemo_cosmos.launch.ray.states import RayWatcher
from nemo_cosmos.launch.slurm.states import SlurmWatcher

#: Watchers by the name of the launcher in a record.
WATCHERS: dict[str, Callable[[], Watcher]] = {
    "local": LocalWatcher,
    "slurm": SlurmWatcher,
    "kubernetes": KubernetesWatcher,
    "ray": RayWatcher,
}
#: Jobs that ended longer ago are left out of the list.
RECENT_S = 7 * 24 * 3600.0


def list_jobs(recent_s: float = RECENT_S) -> list[JsonObject]:
    """Return the jobs of late and those that have not ended, the newest first.

    Args:
        recent_s: how long ago an ended job may have been started.

    Returns:
        ``{"job", "name", "on", "state", "why", "nodes", "done", "total", "unit", "per_s", "left_s",
        "log", "started_s"}`` each; a run of a sweep has an entry of its own.
    """
    records = read_records()
    states = _states_of(records)
    since = time.time() - recent_s
    rows = []
    for record in records:
        for task in record.tasks:
            state = states[record.launcher, task]
            if record.started_s >= since or state.word in (Word.WAITING, Word.RUNNING):
                rows.append(_row(record, task, state))
    return rows


def cancel_job(word: str) -> str:
    """End a job or a run of a sweep.

    Args:
        word: its number or name.

    Returns:
        its number.

    Raises:
        ConfigError: there is no such job, it has ended, or its queue refuses.
    """
    record, task = find_job(word)
    states = _watcher(record).states([record])
    now = [states[each] for each in ([task] if task else record.tasks)]
    if all(state.word.is_ended for state in now):
        raise ConfigError(
            f"The job '{task or record.number}' ('{record.name}') has ended already: "
            f"{now[0].word}{f' ({now[0].why})' if now[0].why else ''}."
        )
    _watcher(record).cancel(record, task)
    if task is None and record.launcher != "local":  # a local job notes its own end
        record.keep_end(Word.CANCELLED, None)
    return task or record.number


def job_log(word: str, rank: int | None = None, follow: bool = False) -> Iterator[str]:
    """Yield the lines of a job's output.

    Args:
        word: its number or name.
        rank: the process whose lines are wanted; None for all.
        follow: whether to go on until it has ended.

    Raises:
        ConfigError: there is no such job or rank, or its output was not kept.
    """
    record, task = find_job(word)
    return _watcher(record).log(record, task, rank, follow)


def state_of(word: str) -> JobState:
    """Return the state of a job, or of the run of a sweep that was named.

    Raises:
        ConfigError: there is no such job.
    """
    record, task = find_job(word)
    return _watcher(record).states([record])[task or record.tasks[0]]


def _watcher(record: JobRecord) -> Watcher:
    if record.launcher not in WATCHERS:
        raise ConfigError(
            f"The job '{record.number}' was started by the launcher '{record.launcher}', which "
            "this release does not have."
        )
    return WATCHERS[record.launcher]()


def _states_of(records: Sequence[JobRecord]) -> dict[tuple[str, str], JobState]:
    """The states of all jobs; a queue that does not answer hides no other's."""
    found: dict[tuple[str, str], JobState] = {}
    by_launcher = sorted(records, key=lambda record: record.launcher)
    for launcher, group in groupby(by_launcher, key=lambda record: record.launcher):
        jobs = list(group)
        try:
            states = dict(_watcher(jobs[0]).states(jobs))
        except NemoCosmosError as error:
            states = {
                task: JobState(Word.UNKNOWN, str(error)) for job in jobs for task in job.tasks
            }
        found |= {(launcher, task): state for task, state in states.items()}
    return found


def _row(record: JobRecord, task: str, state: JobState) -> JsonObject:
    has_begun = state.word is not Word.WAITING or record.runs
    tail = partial(_watcher(record).tail, record, task)
    progress = progress_of(record, task, state.word.is_ended, tail) if has_begun else None
    is_running = state.word is Word.RUNNING
    return {
        "job": task,
        "name": record.name,
        "on": record.launcher,
        "state": str(state.word),
        "why": state.why,
        "nodes": state.nodes,
        "done": progress.done if progress else None,
        "total": progress.total if progress else None,
        "unit": progress.unit if progress else None,
        "per_s": progress.per_s if progress and is_running else None,
        "left_s": progress.left_s if progress and is_running else None,
        "log": record.log and record.log.replace("%a", task.rpartition("_")[2]),
        "started_s": record.started_s,
    }
