"""How far long work has come, on standard error: for people or for machines.

On a terminal it is a bar with rate and time left; in a log a line now and then; for machines JSON
lines, one a second at most::

    with show_progress("Generating", "steps") as update:
        for step in range(35):
            ...
            update(step + 1, 35)

    {"progress": "Generating", "done": 7, "total": 35, "unit": "steps", "per_s": 1.4, "left_s": 20}
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Update = Callable[[int, int], None]
"""Called with what is done and the total."""

Show = Literal["nothing", "people", "json"]
"""Who reads the progress."""

BYTES = "bytes"
"""The unit that is shown as kB, MB or GB."""

JSON_INTERVAL_S = 1.0
LOG_INTERVAL_S = 15.0


class _View(Protocol):
    """One way to show progress."""

    def update(self, done: int, total: int, per_s: float) -> None: ...

    def close(self) -> None: ...


@contextmanager
def show_progress(label: str, unit: str, show: Show = "people") -> Iterator[Update]:
    """Show progress on standard error while the block runs.

    Args:
        label: the name of the work.
        unit: what is counted, in the plural, or :data:`BYTES`.
        show: who reads it.

    Yields:
        a function to call with what is done and the total. The rate counts from the first call,
        so that what an earlier run did is no speed of this one.
    """
    view = _view(label, unit, show)
    first: tuple[int, float] | None = None

    def update(done: int, total: int) -> None:
        nonlocal first
        now_s = time.monotonic()
        first = first or (done, now_s)
        view.update(done, total, (done - first[0]) / max(now_s - first[1], 1e-9))

    try:
        yield update
    finally:
        view.close()


def _view(label: str, unit: str, show: Show) -> _View:
    if show == "json":
        return _Lines(label, unit, JSON_INTERVAL_S, _json_line)
    if show == "nothing":
        return _Lines(label, unit, float("inf"), lambda *_: "")
    if sys.stderr.isatty():
        return _Bar(label, unit)
    return _Lines(label, unit, LOG_INTERVAL_S, _log_line)


class _Bar:
    """A bar on a terminal."""

    def __init__(self, label: str, unit: str) -> None:
        from rich import progress
        from rich.console import Console

        count = progress.DownloadColumn() if unit == BYTES else progress.MofNCompleteColumn()
        self._unit = unit
        self._bar: RichProgress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            count,
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID = self._bar.add_task(label, total=None, rate="")
        self._bar.start()

    def update(self, done: int, total: int, per_s: float) -> None:
        self._bar.update(self._task, completed=done, total=total, rate=_rate(per_s, self._unit))

    def close(self) -> None:
        self._bar.stop()


class _Lines:
    """A line now and then, and one at the end."""

    def __init__(
        self,
        label: str,
        unit: str,
        interval_s: float,
        line: Callable[[str, str, int, int, float], str],
    ) -> None:
        self._label, self._unit, self._interval_s, self._line = label, unit, interval_s, line
        self._printed_s = time.monotonic()
        self._pending = ""

    def update(self, done: int, total: int, per_s: float) -> None:
        self._pending = self._line(self._label, self._unit, done, total, per_s)
        if time.monotonic() - self._printed_s >= self._interval_s:
            self._print()

    def close(self) -> None:
        self._print()

    def _print(self) -> None:
        if self._pending:
            print(self._pending, file=sys.stderr, flush=True)
        self._printed_s, self._pending = time.monotonic(), ""


def _json_line(label: str, unit: str, done: int, total: int, per_s: float) -> str:
    facts: dict[str, object] = {"progress": label, "done": done, "total": total, "unit": unit}
    if per_s > 0:
        facts |= {"per_s": round(per_s, 3), "left_s": round((total - done) / per_s, 1)}
    return json.dumps(facts)


def _log_line(label: str, unit: str, done: int, total: int, per_s: float) -> str:
    count = f"{done} of {total} {unit}"
    if unit == BYTES:
        count = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
    if per_s <= 0:
        return f"{label}: {count}"
    return f"{label}: {count}, {_rate(per_s, unit)}, {(total - done) / per_s:.0f} s left"


def _rate(per_s: float, unit: str) -> str:
    if per_s <= 0:
        return ""
    return f"{per_s / 1e6:.1f} MB/s" if unit == BYTES else f"{per_s:.2f} {unit}/s"
