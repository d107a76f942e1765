"""The one place that hears what a run does: it counts, shows and writes it in one visit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from data_curation.clip import Clip, Rejection
from data_curation.journal import SourceResult
from data_curation.reporting.metrics import MetricsFile
from data_curation.reporting.progress import view_of
from data_curation.reporting.tally import Tally
from nemo_cosmos.progress import Show


class RunRecorder:
    """Counts what a run does, shows it, and writes ``metrics.jsonl``.

    Use it as a context manager.

    Args:
        folder: the run's folder.
        num_sources: number of sources.
        stages: names of the stages, in order.
        show: audience of the live counts; see :data:`Show`.
    """

    def __init__(
        self, folder: Path, num_sources: int, stages: Sequence[str], show: Show = "nothing"
    ) -> None:
        self._tally = Tally(num_sources, stages)
        self._metrics = MetricsFile(folder)
        self._view = view_of(show, num_sources)

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
        """Record one finished source."""
        self._tally.source_done(result)
        self._metrics.source_done(result)
        self._view.show(self._tally)

    @contextmanager
    def step(
        self, name: str, clips: Sequence[Clip], shown_as: str = ""
    ) -> Iterator[Callable[[], None]]:
        """Record a step that sees all clips, a stage or another; yields a callback for each clip.

        Args:
            name: the stage or step, as the metrics name it.
            clips: the clips that enter it.
            shown_as: name on the display; by default the same.
        """
        started_s, started_cpu_s, done = time.perf_counter(), time.process_time(), 0
        self._tally.step_begins(name, len(clips))

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count
            self._tally.clips_done(name, count, time.perf_counter() - started_s)
            self._view.step(shown_as or name, done, len(clips))
            self._view.show(self._tally)

        advance(0)
        yield advance
        advance(len(clips) - done)
        wall_s, core_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
        self._tally.step_done(name, clips, wall_s, core_s)

    def dataset_done(
        self, counts: Mapping[str, tuple[int, int]], rejections: Sequence[Rejection]
    ) -> None:
        """Show the final counts, including those of the stages that see all clips."""
        self._tally.dataset_done(counts, rejections)
        self._view.show(self._tally)

    def file_done(self, done: int, total: int) -> None:
        """Show the upload of files to a bucket."""
        self._view.step("upload", done, total)
        self._view.show(self._tally)

    def run_done(self) -> None:
        """Write the metrics of the whole run."""
        self._metrics.run_done(self._tally)
