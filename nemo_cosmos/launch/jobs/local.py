"""Jobs of this machine: a record while they run, their logs, and how they end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nemo_cosmos.errors import Cancelled, ConfigError
from nemo_cosmos.launch.job import Job
from nemo_cosmos.launch.jobs.logs import check_rank, file_tail, read_files
from nemo_cosmos.launch.jobs.record import JOB_VARIABLE, JobRecord, is_part_of_a_job
from nemo_cosmos.launch.jobs.state import JobState, Word


@contextmanager
def recorded(job: Job) -> Iterator[None]:
    """Record the job that the block runs, and how it ends; not what a recorded job runs itself.

    Args:
        job: the job, which runs in this process or its children.
    """
    if is_part_of_a_job():
        yield
        return
    place = {"host": socket.gethostname(), "started": _start_of(os.getpid()) or ""}
    record = JobRecord.of(job, "local", str(os.getpid()), place=place)
    record.keep()
    os.environ[JOB_VARIABLE] = record.number
    try:
        yield
    except (KeyboardInterrupt, Cancelled):
        record.keep_end(Word.CANCELLED, 130)
        raise
    except BaseException:
        record.keep_end(Word.FAILED, None)
        raise
    else:
        record.keep_end(Word.DONE, 0)
    finally:
        os.environ.pop(JOB_VARIABLE, None)


class LocalWatcher:
    """Looks after jobs of this machine."""

    def states(self, records: Sequence[JobRecord]) -> Mapping[str, JobState]:
        """Say whether their processes live, and else how they ended."""
        return {task: _state(record) for record in records for task in record.tasks}

    def log(
        self, record: JobRecord, task: str | None, rank: int | None, follow: bool
    ) -> Iterator[str]:
        """Read what NeMo wrote into the run's folder: a file for each rank."""
        check_rank(record, rank)
        files = [file for run in record.runs for file in _logs_of(Path(run.folder), rank or 0)]
        if not files:
            raise ConfigError(
                f"The output of '{record.number}' ('{record.name}') went to the terminal that "
                "started it, and was not kept."
            )
        kept = JobRecord(launcher="local", number=record.number, name="", log=str(files[-1]))
        alive = lambda: not _state(record).word.is_ended  # noqa: E731 - a word longer as a function
        yield from read_files(kept, None, None, follow, alive)

    def tail(self, record: JobRecord, task: str) -> list[str]:
        """Return nothing: its output went to a terminal."""
        return file_tail(record, task)

    def cancel(self, record: JobRecord, task: str | None) -> None:
        """Ask its process to stop, which saves first."""
        if task is not None and record.variants:
            raise ConfigError(
                f"The runs of '{record.number}' follow each other in one process. Cancel the whole "
                f"sweep: nemo-cosmos cancel {record.number}."
            )
        if record.place.get("host") != socket.gethostname():
            raise ConfigError(
                f"The job '{record.number}' runs on '{record.place.get('host')}'. Cancel it there."
            )
        os.kill(int(record.number), signal.SIGTERM)


def _logs_of(run: Path, rank: int) -> list[Path]:
    found = run.glob(f"nemo_log_globalrank-{rank}_*.txt")
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _state(record: JobRecord) -> JobState:
    host = record.place.get("host", "")
    if record.ended:
        code = record.code
        return JobState(Word(record.ended), f"exit code {code}" if code else "", host)
    if host != socket.gethostname():
        return JobState(Word.UNKNOWN, f"it was started on '{host}', which only that machine sees")
    if _start_of(int(record.number)) == record.place.get("started"):
        return JobState(Word.RUNNING, "", host)
    return JobState(Word.FAILED, "its process was killed", host)


def _start_of(process: int) -> str | None:
    """When a process started, which tells it from a later one of the same number."""
    import psutil

    try:
        return str(psutil.Process(process).create_time())
    except psutil.Error:
        return None
