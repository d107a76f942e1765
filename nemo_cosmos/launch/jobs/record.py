"""What is kept of a job that was started: enough to find it, its log and its progress again.

A record is a JSON file in the user's state folder, written by the process that starts the job::

    ~/.local/state/nemo_cosmos/jobs/20260131-093012-slurm-4711.json

Jobs of all clusters and launchers lie side by side. What a job does now is asked of its queue.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.home import user_folder
from nemo_cosmos.launch.job import Job
from nemo_cosmos.storage import atomic_path

#: Set for the processes of a recorded job, whose commands are no jobs of their own.
JOB_VARIABLE = "NEMO_COSMOS_JOB"


@dataclass(frozen=True)
class TrainingRun:
    """A training run of a job.

    Attributes:
        folder: the folder of its curves and checkpoints.
        num_steps: its number of steps.
    """

    folder: str
    num_steps: int


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job that was started.

    Attributes:
        launcher: the name of the launcher that took it.
        number: its number or name in the queue; of a job on this machine, its process's.
        name: the job's name.
        command: the words after ``nemo-cosmos``.
        started_s: the time of its submission, in seconds since 1970.
        num_processes: its ranks.
        log: the file of its output; of a sweep with ``%a`` for the number of a run. None where its
            output went elsewhere.
        runs: its training runs, one for each variant; empty for other commands.
        variants: the words of each run of a sweep.
        place: the way back to its queue, such as a namespace or an address.
        ended: the end of a job that no queue remembers: ``done``, ``failed`` or ``cancelled``.
        code: its exit code; None before its end.
    """

    launcher: str
    number: str
    name: str
    command: Sequence[str] = ()
    started_s: float = 0.0
    num_processes: int = 1
    log: str | None = None
    runs: Sequence[TrainingRun] = ()
    variants: Sequence[Sequence[str]] = ()
    place: Mapping[str, str] = field(default_factory=dict)
    ended: str | None = None
    code: int | None = None

    @classmethod
    def of(cls, job: Job, launcher: str, number: str, **more: Any) -> JobRecord:
        """Make the record of a job that starts now.

        Args:
            job: the job.
            launcher: the launcher's name.
            number: the job's number in the queue.
            more: further attributes, or replacements of those.
        """
        return cls.of_chain([job], launcher, number, **more)

    @classmethod
    def of_chain(cls, jobs: Sequence[Job], launcher: str, number: str, **more: Any) -> JobRecord:
        """Make the record of jobs that follow each other, which the queue counts as one.

        Args:
            jobs: the jobs in order; at least one.
            launcher: the launcher's name.
            number: their number in the queue.
            more: further attributes, or replacements of those.
        """
        first, *rest = jobs
        following = (word for job in rest for word in ("--then", shlex.join(job.command)))
        known: dict[str, Any] = {
            "name": "+".join(job.name for job in jobs),
            "command": (*first.command, *following),
            "started_s": time.time(),
            "num_processes": max(job.resources.num_processes for job in jobs),
            "runs": tuple(run for job in jobs for run in _runs_of(job)),
            "variants": tuple(tuple(words) for words in first.variants),
        }
        return cls(launcher=launcher, number=number, **{**known, **more})

    @property
    def file(self) -> Path:
        """Where it is kept."""
        when = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.started_s))
        safe = "".join(sign if sign.isalnum() or sign in "-._" else "_" for sign in self.number)
        return records_folder() / f"{when}-{self.launcher}-{safe}.json"

    @property
    def tasks(self) -> list[str]:
        """Names of its parts: one for each run of a sweep, else its own number."""
        return [f"{self.number}_{place}" for place in range(len(self.variants))] or [self.number]

    def keep(self) -> None:
        """Write the record; a job that has started does not fail because it cannot be noted."""
        try:
            with atomic_path(self.file) as path:
                path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            print(
                f"The job '{self.name}' is not in the list of 'nemo-cosmos status': {error}.",
                file=sys.stderr,
            )

    def keep_end(self, ended: str, code: int | None) -> None:
        """Note how the job ended.

        Args:
            ended: its last state: ``done``, ``failed`` or ``cancelled``.
            code: its exit code, if it is known.
        """
        replace(self, ended=ended, code=code).keep()


def records_folder() -> Path:
    """Return the folder of all records."""
    return user_folder("XDG_STATE_HOME") / "jobs"


def is_part_of_a_job() -> bool:
    """Whether a recorded job started this process."""
    return JOB_VARIABLE in os.environ


def read_records() -> list[JobRecord]:
    """Return the records of all jobs, the newest first; a damaged one is left out."""
    folder = records_folder()
    if not folder.is_dir():
        return []
    found = []
    for path in folder.glob("*.json"):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            runs = tuple(TrainingRun(**each) for each in values.pop("runs", ()))
            found.append(JobRecord(**values, runs=runs))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda record: record.started_s, reverse=True)


def find_job(word: str) -> tuple[JobRecord, str | None]:
    """Return the job that a person names, and the run of a sweep where one is named.

    Args:
        word: the number of a job or of a run of a sweep (``4711_3``), or a name, of which the
            newest job is meant.

    Raises:
        ConfigError: there is no such job; names the nearest ones.
    """
    records = read_records()
    for record in records:
        if word == record.number:
            return record, None
    for record in records:
        if record.variants and word in record.tasks:
            return record, word
    for record in records:
        if word == record.name:
            return record, None
    if not records:
        raise ConfigError(
            f"There is no job '{word}': none was started from this account yet. --on CLUSTER "
            "starts one; 'nemo-cosmos status' lists them."
        )
    names = list(dict.fromkeys(name for each in records for name in (each.number, each.name)))
    raise ConfigError(
        f"There is no job '{word}'. The nearest are {nearest_names(word, names)}; 'nemo-cosmos "
        "status' lists them all."
    )


def _runs_of(job: Job) -> tuple[TrainingRun, ...]:
    """The training runs of a recipe, one for each variant."""
    if job.recipe is None or not hasattr(job.recipe, "log"):
        return ()
    log, steps = job.recipe.log, int(job.recipe.trainer.max_steps)
    explicit = getattr(log, "explicit_log_dir", None)
    if explicit and not job.variants:
        return (TrainingRun(str(Path(explicit).absolute()), steps),)
    folder = Path(log.log_dir or "outputs").absolute()
    runs = []
    for words in job.variants or [()]:
        said = dict(word.partition("=")[::2] for word in words)
        name = said.get("log.name", log.name)
        runs.append(TrainingRun(str(folder / name), int(said.get("trainer.max_steps", steps))))
    return tuple(runs)
