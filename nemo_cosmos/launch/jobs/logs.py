"""Logs of jobs in files, whole or followed, of all ranks or one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.launch.jobs.record import JobRecord

INTERVAL_S = 0.5
_TAIL_BYTES = 64_000
#: What ``srun --label`` writes before a line: the rank, padded to the width of the last.
_LABEL = re.compile(r" *(\d+): ?")


def log_file(record: JobRecord, task: str) -> Path | None:
    """The file of a task's output; None where it went elsewhere."""
    if record.log is None:
        return None
    return Path(record.log.replace("%a", task.rpartition("_")[2]))


def file_tail(record: JobRecord, task: str) -> list[str]:
    """Return the last lines of a task's file; none where there is no file."""
    path = log_file(record, task)
    return [] if path is None else tail_lines(path)


def tail_lines(path: Path) -> list[str]:
    """Return the last lines of a file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace").splitlines()


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


def check_one_task(record: JobRecord, task: str | None, follow: bool) -> None:
    """Refuse to follow several runs of a sweep at once.

    Args:
        record: the job.
        task: a run of its sweep; None for all.
        follow: whether it is followed.

    Raises:
        ConfigError: names the runs.
    """
    tasks = record.tasks
    if follow and task is None and len(tasks) > 1:
        raise ConfigError(
            f"The job '{record.number}' has {counted(len(tasks), 'run')}. Follow one of them: "
            f"{tasks[0]} to {tasks[-1]}."
        )


def lines_of_rank(lines: Iterable[str], record: JobRecord, rank: int | None) -> Iterator[str]:
    """Yield the lines of one rank without their label, or all lines as they are.

    Args:
        lines: lines of all ranks.
        record: the job.
        rank: the process whose lines are wanted; None for all.
    """
    for line in lines:
        if rank is None or record.num_processes == 1:
            yield line
        elif (label := _LABEL.match(line)) and int(label[1]) == rank:
            yield line[label.end() :]


def read_tasks(
    record: JobRecord,
    task: str | None,
    rank: int | None,
    follow: bool,
    name_of: Callable[[int], str],
    lines_of: Callable[[int], Iterable[str]],
) -> Iterator[str]:
    """Yield the output of a job, that of each of several runs below its name.

    Args:
        record: the job.
        task: a run of its sweep; None for all.
        rank: the process whose lines are wanted; None for all.
        follow: whether to go on until it ends.
        name_of: returns the name of a run by its place in the sweep.
        lines_of: returns the lines of a run by its place in the sweep.

    Raises:
        ConfigError: the job has no such rank, or several runs would be followed.
    """
    check_rank(record, rank)
    check_one_task(record, task, follow)
    for place, each in enumerate(record.tasks):
        if task is not None and each != task:
            continue
        if task is None and len(record.tasks) > 1:
            yield f"==> {name_of(place)} <=="
        yield from lines_of_rank(lines_of(place), record, rank)


def read_files(
    record: JobRecord, task: str | None, rank: int | None, follow: bool, goes_on: Callable[[], bool]
) -> Iterator[str]:
    """Yield the output of a job whose runs write files, each of several below its path.

    Args:
        record: the job.
        task: a run of its sweep; None for all.
        rank: the process whose lines are wanted; None for all.
        follow: whether to go on until the job has ended.
        goes_on: whether the job may still write.

    Raises:
        ConfigError: the job has no such rank or no file, or several runs would be followed.
    """

    def path_of(place: int) -> Path:
        path = log_file(record, record.tasks[place])
        if path is None:
            raise ConfigError(
                f"The output of '{record.number}' ('{record.name}') went to the terminal that "
                "started it, and was not kept."
            )
        return path

    def lines(place: int) -> Iterator[str]:
        return _lines(path_of(place), follow, goes_on)

    return read_tasks(record, task, rank, follow, lambda place: str(path_of(place)), lines)


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
