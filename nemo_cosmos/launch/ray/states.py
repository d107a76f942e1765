"""What Ray says of its jobs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from nemo_cosmos.errors import NemoCosmosError
from nemo_cosmos.launch.jobs.logs import INTERVAL_S, read_tasks
from nemo_cosmos.launch.jobs.record import JobRecord
from nemo_cosmos.launch.jobs.state import JobState, Word
from nemo_cosmos.launch.names import task_name
from nemo_cosmos.launch.ray.commands import JobServer

_WORDS = {
    "PENDING": Word.WAITING,
    "RUNNING": Word.RUNNING,
    "STOPPED": Word.CANCELLED,
    "SUCCEEDED": Word.DONE,
    "FAILED": Word.FAILED,
}
_TAIL_LINES = 50
#: How the driver begins a line that says what it waits for (``nemo_cosmos.launch.ray.nodes``).
WAITS = "Waits for "


class RayWatcher:
    """Looks after jobs of Ray clusters."""

    def states(self, records: Sequence[JobRecord]) -> Mapping[str, JobState]:
        """Ask the server of each cluster once."""
        places: dict[str, list[JobRecord]] = defaultdict(list)
        for record in records:
            places[record.place["address"]].append(record)
        found: dict[str, JobState] = {}
        for address, jobs in places.items():
            known = JobServer(address).jobs()
            for record in jobs:
                for place, task in enumerate(record.tasks):
                    found[task] = self._state(record, task, known.get(_job_of(record, place)))
        return found

    def log(
        self, record: JobRecord, task: str | None, rank: int | None, follow: bool
    ) -> Iterator[str]:
        """Read the output of the driver, which has that of all ranks."""

        def lines(place: int) -> Iterator[str]:
            return self._lines(record, record.tasks[place], follow)

        return read_tasks(record, task, rank, follow, partial(_job_of, record), lines)

    def tail(self, record: JobRecord, task: str) -> list[str]:
        """Return the last lines of the driver's output."""
        number = _job_of(record, record.tasks.index(task))
        try:
            return _server(record).log(number).splitlines()[-_TAIL_LINES:]
        except NemoCosmosError:
            return []

    def cancel(self, record: JobRecord, task: str | None) -> None:
        """Stop it, which lets its ranks save first."""
        for place, each in enumerate(record.tasks):
            if task in (None, each):
                _server(record).stop(_job_of(record, place))

    def _lines(self, record: JobRecord, task: str, follow: bool) -> Iterator[str]:
        server, number = _server(record), _job_of(record, record.tasks.index(task))
        seen = 0
        while True:
            # Asked before reading: what was written until the job ended is read after.
            is_last = not follow or self.states([record])[task].word.is_ended
            text = server.log(number)[seen:]
            end = len(text) if is_last else text.rfind("\n") + 1
            yield from text[:end].splitlines()
            seen += end
            if is_last:
                return
            time.sleep(INTERVAL_S)

    def _state(self, record: JobRecord, task: str, said: Mapping[str, Any] | None) -> JobState:
        if said is None:
            if record.ended:
                return JobState(Word(record.ended))
            return JobState(Word.UNKNOWN, "the cluster has forgotten it, or has started again")
        word = _WORDS.get(str(said.get("status")), Word.UNKNOWN)
        if word is Word.RUNNING:
            last = next(iter(self.tail(record, task)[-1:]), "")
            if last.startswith(WAITS):  # the driver runs, and its ranks have no machines yet
                return JobState(Word.WAITING, last)
            return JobState(word)
        if word is Word.WAITING:
            return JobState(word, " ".join(str(said.get("message") or "").split()))
        if word is Word.FAILED:
            code = said.get("driver_exit_code")
            message = " ".join(str(said.get("message") or "").split())[:200]
            return JobState(word, f"exit code {code}" if code else message)
        return JobState(word)


def _server(record: JobRecord) -> JobServer:
    return JobServer(record.place["address"])


def _job_of(record: JobRecord, place: int) -> str:
    return task_name(record.number, place) if record.variants else record.number
