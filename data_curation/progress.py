"""Live counts of a run: per stage what is done, rejected and how fast, and the time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data_curation.journal import SourceResult
from data_curation.stages.base import Rejection


class CurateProgress:
    """A bar for the sources and a table of the stages, drawn on standard error.

    Args:
        num_sources: how many sources there are.
        stages: names of the stages, in order.
        show: whether anything is drawn.
    """

    def __init__(self, num_sources: int, stages: Sequence[str], show: bool) -> None:
        self._stages = list(stages)
        self._done: Counter[str] = Counter()
        self._stage_s: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {name: Counter() for name in stages}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._sources = self._bars.add_task("sources", total=num_sources, rate="")
        self._started_s = time.monotonic()
        self._video_s = 0.0
        self._live = Live(console=Console(stderr=True), refresh_per_second=4) if show else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._draw()
            self._live.stop()

    def source_done(self, result: SourceResult) -> None:
        """Count one finished source."""
        for stage, (_, num_passed) in result.counts.items():
            self._done[stage] += num_passed
        self._stage_s.update(result.stage_s)
        self._count(result.rejections)
        self._video_s += 0.0 if result.reused else result.duration_s
        elapsed_s = time.monotonic() - self._started_s
        rate = f"{self._video_s / max(elapsed_s, 1e-9):.1f} s of video per second"
        self._bars.update(self._sources, advance=1, rate=rate)
        self._draw()

    def dataset_done(
        self, counts: Mapping[str, tuple[int, int]], rejections: Sequence[Rejection]
    ) -> None:
        """Show the final counts, those of the stages that see all clips included."""
        self._done = Counter({stage: num_passed for stage, (_, num_passed) in counts.items()})
        self._reasons = {name: Counter() for name in self._stages}
        self._count(rejections)
        self._draw()

    @contextmanager
    def counting(self, name: str, num_clips: int) -> Iterator[Callable[[], None]]:
        """A bar for the clips of one step, with rate and time left; yields what advances it."""
        task = self._bars.add_task(name, total=num_clips, rate="")
        started_s = time.monotonic()

        def advance(count: int = 1) -> None:
            done = self._bars.tasks[task].completed + count
            elapsed_s = time.monotonic() - started_s
            rate = f"{done / elapsed_s:.1f} clips/s" if elapsed_s > 0.5 else ""
            self._bars.update(task, completed=done, rate=rate)
            self._draw()

        yield advance
        advance(num_clips - round(self._bars.tasks[task].completed))

    def _count(self, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            self._reasons[rejection.stage][rejection.reason] += 1

    def _draw(self) -> None:
        if self._live is None:
            return
        table = Table(box=None, padding=(0, 2))
        for heading in ("stage", "passed", "clips/s", "rejected"):
            table.add_column(
                heading, justify="left" if heading in ("stage", "rejected") else "right"
            )
        for name in self._stages:
            seconds = self._stage_s[name]
            rate = f"{self._done[name] / seconds:.1f}" if seconds else "-"
            reasons = ", ".join(f"{n} {why}" for why, n in sorted(self._reasons[name].items()))
            table.add_row(name, str(self._done[name]), rate, reasons)
        self._live.update(Group(self._bars, table), refresh=True)
