"""Run the parts of the quickstart one after another, and skip finished ones.

A finished step leaves a record, ``steps/<name>.json``. The record holds a fingerprint of the step's
definition and of the record before it: a changed setting runs that step and all later ones again,
an unchanged one is re-used.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_cosmos import __version__
from nemo_cosmos.storage import atomic_path

RECORDS_FOLDER = "steps"


@dataclass(frozen=True)
class Step:
    """One part of the road.

    Attributes:
        name: file name of its record.
        title: the title shown while it runs.
        definition: everything that its result depends on, as JSON; part of the fingerprint.
        run: does the work and returns figures for the report. It is idempotent: a step that was
            interrupted is simply run again.
    """

    name: str
    title: str
    definition: Mapping[str, object]
    run: Callable[[], Mapping[str, object]]


@dataclass(frozen=True)
class Record:
    """The record of a finished step.

    Attributes:
        name: the step's name.
        title: the step's title.
        fingerprint: the hash of the step's definition and of the step before it.
        duration_s: wall-clock time of the run that finished the step, in seconds.
        figures: the figures that the step measured.
    """

    name: str
    title: str
    fingerprint: str
    duration_s: float
    figures: Mapping[str, object]


Announce = Callable[[int, int, Step, bool], None]


def run_steps(workspace: Path, steps: Sequence[Step], announce: Announce) -> list[Record]:
    """Run or re-use each step in order.

    Args:
        workspace: folder of the quickstart.
        steps: the steps in the order of the road.
        announce: called before each step with its number from 1, the number of steps, the step,
            and whether it is re-used.

    Returns:
        One record a step.
    """
    records: list[Record] = []
    previous = __version__
    for number, step in enumerate(steps, start=1):
        fingerprint = _fingerprint(step, previous)
        record = _read_record(workspace, step.name)
        reused = record is not None and record.fingerprint == fingerprint
        announce(number, len(steps), step, reused)
        if record is None or not reused:
            record = _run_step(workspace, step, fingerprint)
        records.append(record)
        previous = fingerprint
    return records


def _run_step(workspace: Path, step: Step, fingerprint: str) -> Record:
    """Run one step and write its record."""
    _record_path(workspace, step.name).unlink(missing_ok=True)
    start_s = time.perf_counter()
    figures = step.run()
    duration_s = round(time.perf_counter() - start_s, 1)
    record = Record(step.name, step.title, fingerprint, duration_s, dict(figures))
    with atomic_path(_record_path(workspace, step.name)) as temporary:
        temporary.write_text(json.dumps(vars(record), indent=2), encoding="utf-8")
    return record


def _fingerprint(step: Step, previous: str) -> str:
    text = json.dumps([previous, step.name, step.definition], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _record_path(workspace: Path, name: str) -> Path:
    return workspace / RECORDS_FOLDER / f"{name}.json"


def _read_record(workspace: Path, name: str) -> Record | None:
    """The record of a finished step; one that cannot be read counts as not done."""
    try:
        return Record(**json.loads(_record_path(workspace, name).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
