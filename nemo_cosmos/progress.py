"""The progress of long work, on standard error: for people or for machines.

On a terminal it is a bar with rate and time left; in a log a line every 15 seconds; for machines
JSON lines, at most one a second::

    with show_progress("Generating", "steps") as update:
        for step in range(35):
            ...
            update(step + 1, 35)

    {"progress": "Generating", "done": 7, "total": 35, "unit": "steps", "per_s": 1.4, "left_s": 20}
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Progress = Callable[[int, int], None]
"""Called by long work after every step, with the amount done and the total. It may raise
``Cancelled`` where the work documents it."""


Note = str | Callable[[], str]
"""Text, or what makes it."""


class LogLine(NamedTuple):
    """What a line of progress in a log says.

    Attributes:
        label: the name of the work.
        done: how much is done.
        total: of how much.
        unit: what is counted.
        per_s: the speed; None where the line has none.
        left_s: time left in seconds; None where the line has none.
    """

    label: str
    done: float
    total: float
    unit: str
    per_s: float | None
    left_s: float | None


class Update(Protocol):
    """Takes what is done, the total, and perhaps a note such as ``loss 0.21``.

    A note that is costly to make, such as one that waits for a GPU, is a function, which is called
    when the note is shown.
    """

    def __call__(self, done: int, total: int, note: Note = "") -> None:
        """Show the new state."""
        ...


Show = Literal["nothing", "people", "json"]
"""Who reads the progress."""

BYTES = "bytes"
"""The unit that is shown as kB, MB or GB."""

JSON_INTERVAL_S = 1.0
LOG_INTERVAL_S = 15.0
NOTE_INTERVAL_S = 1.0
"""Time between two notes of a bar, which shows everything else at once."""


class _State(NamedTuple):
    """The state of the work."""

    label: str
    unit: str
    done: int
    total: int
    per_s: float
    note: Note

    @property
    def note_text(self) -> str:
        """The note, made now."""
        return self.note() if callable(self.note) else self.note

    @property
    def left_s(self) -> float | None:
        """Time left in seconds; None while the speed is unknown."""
        return (self.total - self.done) / self.per_s if self.per_s > 0 else None

    @property
    def rate(self) -> str:
        """The speed as text; empty while it is unknown."""
        if self.per_s <= 0:
            return ""
        if self.unit == BYTES:
            return f"{self.per_s / 1e6:.1f} MB/s"
        return f"{self.per_s:.2f} {self.unit}/s"


class _View(Protocol):
    """One way to show progress."""

    def update(self, state: _State) -> None: ...

    def close(self) -> None: ...


@contextmanager
def show_progress(label: str, unit: str, show: Show = "people") -> Iterator[Update]:
    """Show progress on standard error while the block runs.

    Args:
        label: the name of the work.
        unit: what is counted, in the plural, or :data:`BYTES`.
        show: who reads it.

    Yields:
        A function to call with what is done and the total. The rate counts from the first call, so
        that the work of an earlier run does not count as speed of this one.
    """
    view = _view(label, unit, show)
    first: tuple[int, float] | None = None

    def update(done: int, total: int, note: Note = "") -> None:
        nonlocal first
        now_s = time.monotonic()
        first = first or (done, now_s)
        per_s = (done - first[0]) / max(now_s - first[1], 1e-9)
        view.update(_State(label, unit, done, total, per_s, note))

    try:
        yield update
    finally:
        view.close()


def _view(label: str, unit: str, show: Show) -> _View:
    if show == "json":
        return _Lines(JSON_INTERVAL_S, _json_line)
    if show == "nothing":
        return _Lines(float("inf"), lambda state: "")
    from rich.console import Console

    is_terminal = Console(stderr=True).is_terminal
    return _Bar(label, unit) if is_terminal else _Lines(LOG_INTERVAL_S, _log_line)


def make_bars(unit: str = "") -> RichProgress:
    """Make bars with label, bar, count, the field ``rate``, times and the field ``note``.

    Args:
        unit: what is counted; :data:`BYTES` are shown as sizes.
    """
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn() if unit == BYTES else progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


class _Bar:
    """A bar on a terminal."""

    def __init__(self, label: str, unit: str) -> None:
        self._bar = make_bars(unit)
        self._task: TaskID = self._bar.add_task(label, total=None, rate="", note="")
        self._bar.start()
        self._noted_s = -NOTE_INTERVAL_S
        self._pending: _State | None = None  # whose note is not shown

    def update(self, state: _State) -> None:
        self._bar.update(self._task, completed=state.done, total=state.total, rate=state.rate)
        self._pending = state
        if isinstance(state.note, str) or time.monotonic() - self._noted_s >= NOTE_INTERVAL_S:
            self._show_note()

    def close(self) -> None:
        self._show_note()
        self._bar.stop()

    def _show_note(self) -> None:
        if self._pending is not None:
            self._bar.update(self._task, note=self._pending.note_text)
            self._noted_s, self._pending = time.monotonic(), None


class _Lines:
    """A line at intervals, and one at the end."""

    def __init__(self, interval_s: float, line: Callable[[_State], str]) -> None:
        self._interval_s, self._line = interval_s, line
        self._printed_s = time.monotonic()
        self._pending: _State | None = None

    def update(self, state: _State) -> None:
        self._pending = state
        if time.monotonic() - self._printed_s >= self._interval_s:
            self._print()

    def close(self) -> None:
        self._print()

    def _print(self) -> None:
        line = "" if self._pending is None else self._line(self._pending)
        if line:
            print(line, file=sys.stderr, flush=True)
        self._printed_s, self._pending = time.monotonic(), None


def _json_line(state: _State) -> str:
    facts: dict[str, object] = {
        "progress": state.label,
        "done": state.done,
        "total": state.total,
        "unit": state.unit,
    }
    if state.left_s is not None:
        facts |= {"per_s": round(state.per_s, 3), "left_s": round(state.left_s, 1)}
    if note := state.note_text:
        facts["note"] = note
    return json.dumps(facts)


def _log_line(state: _State) -> str:
    count = f"{state.done} of {state.total} {state.unit}"
    if state.unit == BYTES:
        count = f"{state.done / 1e6:.1f} of {state.total / 1e6:.1f} MB"
    left = "" if state.left_s is None else f"{state.left_s:.0f} s left"
    parts = (part for part in (count, state.rate, left, state.note_text) if part)
    return f"{state.label}: {', '.join(parts)}"


_LOG_LINE = re.compile(
    r"([\w ]+): ([\d.]+) of ([\d.]+) ([^\d\s,]+)(?:, ([\d.]+) [^\d\s,]+/s)?(?:, (\d+) s left)?"
)


def read_log_line(line: str) -> LogLine | None:
    """Read a line that :func:`show_progress` wrote into a log; None if it is another one.

    Args:
        line: the line, without what a launcher wrote before it.
    """
    found = _LOG_LINE.match(line)
    if found is None:
        return None
    label, done, total, unit, per_s, left_s = found.groups()
    speed, left = (None if text is None else float(text) for text in (per_s, left_s))
    return LogLine(label, float(done), float(total), unit, speed, left)
