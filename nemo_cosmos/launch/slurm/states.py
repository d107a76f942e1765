"""What Slurm says of its jobs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from nemo_cosmos.errors import ConfigError, NemoCosmosError
from nemo_cosmos.launch.jobs.logs import file_tail, read_files
from nemo_cosmos.launch.jobs.record import JobRecord
from nemo_cosmos.launch.jobs.state import JobState, Word
from nemo_cosmos.launch.slurm.commands import cancel, past_jobs, queued_jobs

_WORDS = {
    "PENDING": Word.WAITING,
    "REQUEUED": Word.WAITING,
    "REQUEUE_HOLD": Word.WAITING,
    "REQUEUE_FED": Word.WAITING,
    "SPECIAL_EXIT": Word.WAITING,
    "RESV_DEL_HOLD": Word.WAITING,
    "COMPLETED": Word.DONE,
    "CANCELLED": Word.CANCELLED,
    "REVOKED": Word.CANCELLED,
    "FAILED": Word.FAILED,
    "TIMEOUT": Word.FAILED,
    "NODE_FAIL": Word.FAILED,
    "OUT_OF_MEMORY": Word.FAILED,
    "BOOT_FAIL": Word.FAILED,
    "DEADLINE": Word.FAILED,
    "PREEMPTED": Word.FAILED,
}
#: What Slurm's words for waiting and failing mean.
_MEANINGS = {
    "Resources": "the machines are busy",
    "Priority": "other jobs come first",
    "Dependency": "the job before it has not ended",
    "DependencyNeverSatisfied": "the job before it has failed",
    "BeginTime": "it starts again soon",
    "JobArrayTaskLimit": "as many runs of the sweep as allowed are running",
    "JobHeldUser": "a user holds it; 'scontrol release' lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "ReqNodeNotAvail": "machines that it needs are down or reserved",
    "PartitionDown": "the partition takes no jobs now",
    "Licenses": "a licence is in use",
    "TIMEOUT": "its time was up",
    "NODE_FAIL": "a machine failed",
    "OUT_OF_MEMORY": "it took more memory than it asked for",
    "PREEMPTED": "a job of higher priority took its machines",
}
#: Reasons that time alone does not mend.
_NEVER = re.compile(
    r"Partition(Config|NodeLimit|TimeLimit)|BadConstraints|(Account|QOS)NotAllowed"
    r"|Invalid(Account|QOS)|(Assoc|QOS)Max\w*Per(Job|Node)\w*|can't use|not (allowed|permitted)",
)
_EXIT_LINE = re.compile(r"Job \S+ ended with exit code (\d+)")
_POLL_S = 2.0
#: A new job's reason is "None" until the scheduler has looked at it.
_UNSEEN = ("None", "")
_LOOKS, _LOOK_S = 6, 0.3


class SlurmWatcher:
    """Looks after jobs in Slurm's queue."""

    def states(self, records: Sequence[JobRecord]) -> Mapping[str, JobState]:
        """Ask the queue, then Slurm's accounting, then the end of the log."""
        queued = queued_jobs()
        wanted = [task for record in records for task in record.tasks]
        missing = [task for task in wanted if task not in queued]
        past = past_jobs(missing) if missing else {}
        states = {}
        for record in records:
            for task in record.tasks:
                said = queued.get(task) or past.get(task)
                states[task] = _of_log(record, task) if said is None else _state(*said)
        return states

    def log(
        self, record: JobRecord, task: str | None, rank: int | None, follow: bool
    ) -> Iterator[str]:
        """Read the log, which all ranks share."""
        wanted = task or record.number
        return read_files(
            record, task, rank, follow, _polled(lambda: self._goes_on(record, wanted))
        )

    def tail(self, record: JobRecord, task: str) -> list[str]:
        """Read the end of the log."""
        return file_tail(record, task)

    def cancel(self, record: JobRecord, task: str | None) -> None:
        """Cancel it, which lets its ranks save first."""
        cancel(task or record.number)

    def _goes_on(self, record: JobRecord, task: str) -> bool:
        states = self.states([record])
        return any(
            state.word in (Word.WAITING, Word.RUNNING)
            for name, state in states.items()
            if task in (name, record.number)
        )


def why_never(number: str) -> str | None:
    """Return why a job that was just submitted can never start, in Slurm's words.

    Slurm takes jobs that it cannot run into its queue, unless the site enforces its limits.

    Args:
        number: the job's number.

    Returns:
        the reason; None where the job runs or waits for what time brings.
    """
    for _ in range(_LOOKS):
        queued = queued_jobs()
        found = queued.get(number) or queued.get(f"{number}_0")
        if found is None or found[0] != "PENDING":
            return None
        if found[1] not in _UNSEEN:
            return found[1] if _NEVER.search(found[1]) else None
        time.sleep(_LOOK_S)
    return None


def _state(state: str, reason: str, nodes: str) -> JobState:
    """Say what Slurm says in the words of all launchers."""
    word = _WORDS.get(state.split()[0], Word.RUNNING)
    if word is Word.WAITING:
        said = reason
    elif word is Word.RUNNING:
        said = "" if state == "RUNNING" else state.lower()
    elif word is Word.FAILED:
        said = state if reason in _UNSEEN else f"{state}: {reason}" if state != reason else state
    else:
        said = ""
    first = re.split(r"[\s,:]", said)[0].strip("()")
    meaning = _MEANINGS.get(first, "")
    return JobState(word, f"{said}: {meaning}" if meaning else said, nodes)


def _of_log(record: JobRecord, task: str) -> JobState:
    """What the script wrote last, of a job that Slurm has forgotten."""
    if record.ended == Word.CANCELLED:
        return JobState(Word.CANCELLED)
    ends = [found for line in file_tail(record, task)[-3:] if (found := _EXIT_LINE.search(line))]
    if not ends:
        return JobState(Word.UNKNOWN, "Slurm has forgotten it; see its log")
    code = int(ends[-1][1])
    return JobState(Word.FAILED, f"exit code {code}") if code else JobState(Word.DONE)


def _polled(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Ask the queue every few seconds at most; a queue that does not answer is asked again."""
    last: tuple[float, bool] | None = None

    def answer() -> bool:
        nonlocal last
        if last is None or time.monotonic() - last[0] >= _POLL_S:
            try:
                goes_on = ask()
            except ConfigError:
                raise
            except NemoCosmosError:
                goes_on = True
            last = (time.monotonic(), goes_on)
        return last[1]

    return answer
