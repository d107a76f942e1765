"""How far a job is: from the curves of its training run, or from the last lines of its log."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_cosmos.launch.jobs.record import JobRecord, TrainingRun
from nemo_cosmos.progress import read_log_line
from nemo_cosmos.storage.run_curves import read_curves

#: The speed is that of this many lines of the curves, so that an early stop or a slow start of days
#: ago does not count.
NUM_RECENT_LINES = 20
_LABEL = re.compile(r" *\d+: ?")


@dataclass(frozen=True)
class JobProgress:
    """How far a job is.

    Attributes:
        done: how much is done.
        total: of how much.
        unit: what is counted.
        per_s: the speed of late; None while it is unknown.
        left_s: time left in seconds; None while it is unknown.
    """

    done: float
    total: float
    unit: str
    per_s: float | None = None
    left_s: float | None = None


def progress_of(
    record: JobRecord, task: str, has_ended: bool, tail: Callable[[], Sequence[str]]
) -> JobProgress | None:
    """Return how far a task is; None while nothing says so.

    Args:
        record: the job.
        task: its only task, or a run of its sweep.
        has_ended: whether it has ended, so that another job may have gone on in its folder.
        tail: returns the last lines of the task's output.
    """
    runs = _runs_of(record, task)
    looks: list[Callable[[], JobProgress | None]] = [
        lambda: next((said for run in runs if (said := _of_curves(run))), None),
        lambda: _of_lines(tail()),
    ]
    return next((said for look in looks[:: -1 if has_ended else 1] if (said := look())), None)


def _runs_of(record: JobRecord, task: str) -> Sequence[TrainingRun]:
    """The training runs of a task, the newest first: of a chain it may have several."""
    if record.variants:
        return record.runs[record.tasks.index(task) :][:1]
    return record.runs[::-1]


def _of_curves(run: TrainingRun) -> JobProgress | None:
    lines = [line for line in read_curves(Path(run.folder)) if "step" in line and "time_s" in line]
    if not lines:
        return None
    first, last = lines[-NUM_RECENT_LINES:][0], lines[-1]
    passed_s, steps = last["time_s"] - first["time_s"], last["step"] - first["step"]
    per_s = steps / passed_s if passed_s > 0 and steps > 0 else None
    left = run.num_steps - last["step"]
    return JobProgress(
        last["step"], run.num_steps, "steps", per_s, None if per_s is None else left / per_s
    )


def _of_lines(lines: Sequence[str]) -> JobProgress | None:
    for line in reversed(lines):
        label = _LABEL.match(line)
        said = read_log_line(line[label.end() :] if label else line)
        if said is not None:
            return JobProgress(said.done, said.total, said.unit, said.per_s, said.left_s)
    return None
