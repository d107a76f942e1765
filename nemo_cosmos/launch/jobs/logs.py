"""Logs of jobs in files, whole or followed, of all ranks or one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.launch.jobs.record import JobRecord

INTERVAL_S = 0.5
#: What ``srun --label`` writes before a line: the rank, padded to the width of the last.
_LABEL = re.compile(r" *(\d+): ?")


def log_file(record: JobRecord, task: str) -> Path | None:
    """The file of a task's output; None where it went elsewhere."""
    if record.log is None:
        return None
    return Path(record.log.replace("%a", task.rpartition("_")[2]))


def check_rank(record: JobRecord, rank: int | None) -> None:
    """Refuse a rank that the job does not have.

    Raises:
        ConfigError: names those it has.
    """
    if rank is not None and not 0 <= rank < record.num_processes:
        raise ConfigError(
            f"The job '{record.number}' has {counted(record.num_processes, 'process', 'processes')}"
            f", so --rank must be between 0 and {record.num_processes - 1}; it is {rank}."
        )


def read_lines(
    record: JobRecord, task: str | None, rank: int | None, follow: bool, goes_on: Callable[[], bool]
) -> Iterator[str]:
    """Yield the lines of a job's files.

    Args:
        record: the job.
        task: a run of its sweep; None for all.
        rank: the process whose lines are wanted; None for all.
        follow: whether to go on until the job has ended.
        goes_on: whether the job may still write.

    Raises:
        ConfigError: there is no such rank, several runs cannot be followed at once, or no file.
    """
    check_rank(record, rank)
    tasks = [task] if task else record.tasks
    if follow and len(tasks) > 1:
        raise ConfigError(
            f"The job '{record.number}' has {counted(len(tasks), 'run')}. Follow one of them: "
            f"{tasks[0]} to {tasks[-1]}."
        )
    for each in tasks:
        path = log_file(record, each)
        if path is None:
            raise ConfigError(
                f"The output of '{record.number}' ('{record.name}') went to the terminal that "
                "started it, and was not kept."
            )
        if len(tasks) > 1:
            yield f"==> {path} <=="
        for line in _lines(path, follow, goes_on):
            if rank is None or record.num_processes == 1:
                yield line
            elif (label := _LABEL.match(line)) and int(label[1]) == rank:
                yield line[label.end() :]


def _lines(path: Path, follow: bool, goes_on: Callable[[], bool]) -> Iterator[str]:
    """The lines of a file that may not be there yet, and may grow."""
    if not follow:
        if path.is_file():
            yield from path.read_text(encoding="utf-8", errors="replace").splitlines()
        return
    while not path.is_file():
        if not goes_on():
            return
        time.sleep(INTERVAL_S)
    rest = ""
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            # Asked before reading: what was written until the job ended is read after.
            is_last = not goes_on()
            *lines, rest = (rest + file.read()).split("\n")
            yield from lines
            if is_last:
                break
            time.sleep(INTERVAL_S)
    if rest:
        yield rest
