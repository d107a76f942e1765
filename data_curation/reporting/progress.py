"""Progress of a run on standard error: a live table on a terminal, lines in a log, or JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import TaskID
from rich.table import Table

from data_curation.reporting.tally import Tally
from nemo_cosmos.progress import JSON_INTERVAL_S, Show, make_bars

#: Seconds between two lines in a log.
_LOG_S = 30.0


class View(Protocol):
    """One way to show a run."""

    def step(self, name: str, done: int, total: int) -> None:
        """Take the progress of a step that follows the sources."""
        ...

    def show(self, tally: Tally) -> None:
        """Show the counts; called whenever one has changed."""
        ...

    def close(self, tally: Tally) -> None:
        """End the display, after a success or a failure."""
        ...


def view_of(show: Show, num_sources: int) -> View:
    """The way to show a run of so many sources."""
    if show == "json":
        return _JsonLines()
    if show == "people":
        return _LiveTable(num_sources) if sys.stderr.isatty() else _LogLines()
    return _Nothing()


class _Nothing:
    def step(self, name: str, done: int, total: int) -> None: ...

    def show(self, tally: Tally) -> None: ...

    def close(self, tally: Tally) -> None: ...


class _LiveTable:
    """Bars of the sources and of the steps after them, and a table of the stages."""

    def __init__(self, num_sources: int) -> None:
        self._bars = make_bars()
        self._tasks = {"sources": self._add("sources", num_sources)}
        self._live = Live(self._bars, console=Console(stderr=True), refresh_per_second=4)
        self._live.start()

    def step(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._add(name, total)
        task = self._bars.tasks[self._tasks[name]]
        elapsed_s = task.elapsed or 0.0
        rate = f"{done / elapsed_s:.1f}/s" if done and elapsed_s > 0.5 else ""
        self._bars.update(task.id, completed=done, rate=rate)

    def _add(self, name: str, total: int) -> TaskID:
        return self._bars.add_task(name, total=total, rate="", note="")

    def show(self, tally: Tally) -> None:
        rate = f"{tally.video_s_per_s:.1f} s of video/s" if tally.num_done else ""
        self._bars.update(self._tasks["sources"], completed=tally.num_done, rate=rate)
        self._live.update(Group(self._bars, _table(tally)))

    def close(self, tally: Tally) -> None:
        self.show(tally)
        self._live.stop()


class _LogLines:
    """A line every half minute, for logs and pipes."""

    def __init__(self) -> None:
        self._shown_s = time.monotonic()
        self._step = ""

    def step(self, name: str, done: int, total: int) -> None:
        self._step = f"{name}: {done} of {total} clips"

    def show(self, tally: Tally) -> None:
        if time.monotonic() - self._shown_s >= _LOG_S:
            self._print(tally)

    def close(self, tally: Tally) -> None:
        self._print(tally)

    def _print(self, tally: Tally) -> None:
        self._shown_s = time.monotonic()
        num_rejected = sum(stage.rejected.total() for stage in tally.stages.values())
        parts = [
            f"{tally.num_done} of {tally.num_sources} sources",
            f"{num_rejected} rejected",
            f"{tally.video_s_per_s:.1f} s of video/s",
            f"{clock_text(tally.elapsed_s)} elapsed",
            f"{clock_text(tally.left_s())} left",
        ]
        print(", ".join([*parts, self._step] if self._step else parts), file=sys.stderr, flush=True)


class _JsonLines:
    """One JSON object a line, at most one a second, and one at the end."""

    def __init__(self) -> None:
        self._shown_s = float("-inf")
        self._step: dict[str, object] = {}

    def step(self, name: str, done: int, total: int) -> None:
        self._step = {"step": name, "step_done": done, "step_total": total}

    def show(self, tally: Tally) -> None:
        if time.monotonic() - self._shown_s >= JSON_INTERVAL_S:
            self.close(tally)

    def close(self, tally: Tally) -> None:
        self._shown_s = time.monotonic()
        print(json.dumps({**tally.to_json(), **self._step}), file=sys.stderr, flush=True)


def _table(tally: Tally) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "done", "passed", "clips/s", "left"):
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    table.add_column("rejected")
    for name, stage in tally.stages.items():
        rate = "-" if stage.per_s is None else f"{stage.per_s:.1f}"
        reasons = ", ".join(f"{count} {why}" for why, count in stage.rejected.most_common())
        left = clock_text(tally.left_s(name))
        table.add_row(name, str(stage.done), str(stage.passed), rate, left, reasons)
    return table


def clock_text(seconds: float | None) -> str:
    """``1:02:03``; a dash where the time is unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
