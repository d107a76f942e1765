"""How a run goes, on standard error: a live table on a terminal, lines in a log, or JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from data_curation.journal import SourceResult
from data_curation.stages.base import Rejection
from data_curation.tally import Tally

#: What is shown: nothing; what people read (a table, or lines where no terminal is); JSON lines.
Show = Literal["nothing", "people", "json"]
#: Seconds between two lines of JSON, and between two lines in a log.
_JSON_S = 1.0
_LOG_S = 30.0


class CurateProgress:
    """Counts what a run does and shows it.

    Args:
        num_sources: how many sources there are.
        stages: names of the stages, in order.
        show: see :data:`Show`.
    """

    def __init__(self, num_sources: int, stages: Sequence[str], show: Show = "nothing") -> None:
        self._tally = Tally(num_sources, stages)
        self._view = _view(show, num_sources)

    def __enter__(self) -> Self:
        self._view.show(self._tally)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._view.close(self._tally)

    def source_done(self, result: SourceResult) -> None:
        """Count one finished source."""
        self._tally.source_done(result)
        self._view.show(self._tally)

    def dataset_done(
        self, counts: Mapping[str, tuple[int, int]], rejections: Sequence[Rejection]
    ) -> None:
        """Show the final counts, those of the stages that see all clips included."""
        self._tally.dataset_done(counts, rejections)
        self._view.show(self._tally)

    @contextmanager
    def counting(self, name: str, num_clips: int) -> Iterator[Callable[[], None]]:
        """Show the clips of one step, a stage or another; yields what counts one."""
        started_s, done = time.monotonic(), 0
        if name in self._tally.stages:
            self._tally.stages[name].expected = num_clips

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count
            if name in self._tally.stages:
                self._tally.clips_done(name, count, time.monotonic() - started_s)
            self._view.step(name, done, num_clips)
            self._view.show(self._tally)

        advance(0)
        yield advance
        advance(num_clips - done)

    def file_done(self, done: int, total: int) -> None:
        """Show the files that are put into a bucket."""
        self._view.step("upload", done, total)
        self._view.show(self._tally)


class _View(Protocol):
    """One way to show a run."""

    def step(self, name: str, done: int, total: int) -> None:
        """A step beside the sources has come so far."""
        ...

    def show(self, tally: Tally) -> None:
        """Something was counted."""
        ...

    def close(self, tally: Tally) -> None:
        """The run has ended, well or not."""
        ...


def _view(show: Show, num_sources: int) -> _View:
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
    """Bars of the sources and of the steps behind them, and a table of the stages."""

    def __init__(self, num_sources: int) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._tasks = {"sources": self._bars.add_task("sources", total=num_sources, rate="")}
        self._live = Live(self._bars, console=Console(stderr=True), refresh_per_second=4)
        self._live.start()

    def step(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, rate="")
        task = self._bars.tasks[self._tasks[name]]
        elapsed_s = task.elapsed or 0.0
        rate = f"{done / elapsed_s:.1f}/s" if done and elapsed_s > 0.5 else ""
        self._bars.update(task.id, completed=done, rate=rate)

    def show(self, tally: Tally) -> None:
        rate = f"{tally.video_s_per_s:.1f} s of video/s" if tally.num_done else ""
        self._bars.update(self._tasks["sources"], completed=tally.num_done, rate=rate)
        self._live.update(Group(self._bars, _table(tally)))

    def close(self, tally: Tally) -> None:
        self.show(tally)
        self._live.stop()


class _LogLines:
    """A line now and then, for logs and pipes."""

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
            f"{clock_text(tally.elapsed_s)} gone",
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
        if time.monotonic() - self._shown_s >= _JSON_S:
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
    """``1:02:03``; a dash for what is not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
