"""Takes one source through the stages that see single clips; gives up what fails again and again.

The stages up to *transcode* take the clips of a source one stage at a time. Those that look at
finished clips take them one clip at a time, so that the frames of a clip are decoded once for all
of them (:mod:`data_curation.frames`) and those of one clip are in memory.
"""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from data_curation.clip import Clip, Rejection, Result
from data_curation.executors.base import MAX_TRIES
from data_curation.journal import FAILED, WORKER_DIED, Journal, SourceResult
from data_curation.sources.files import discard, fetch
from data_curation.stages.base import BatchStage, ClipStage, Stage
from data_curation.store import ClipStore
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    MissingFileError,
    ServiceError,
    StorageFullError,
)
from nemo_cosmos.storage import explained_when_full, is_full
from nemo_cosmos.video import preferred_backend

#: Seconds of work after which a source's state is journalled before it is finished.
WORTH_KEEPING_S = 1.0
#: Seconds between two such entries while the clips of a source pass several stages one by one.
KEEP_EVERY_S = 30.0
#: Errors that every other file would meet as well: the run ends, and the same command resumes it.
ENDS_THE_RUN = (StorageFullError, ServiceError)


class SourceWorker:
    """The work that executors spread: a source in, what became of it out.

    Args:
        stages: clip and batch stages, in order.
        store: the files of finished clips.
        journal: the results of earlier work.
        decoder: decoder of video; see :class:`data_curation.settings.CurateSettings`.
    """

    def __init__(
        self, stages: Sequence[Stage], store: ClipStore, journal: Journal, decoder: str = "auto"
    ) -> None:
        self.stages = list(stages)
        self.on_stage: Callable[[str], None] = _ignore_stage
        self._store = store
        self._journal = journal
        self._decoder = decoder

    def __call__(self, source: Clip) -> SourceResult:
        """Work on one source, or find its result in the journal."""
        result = self.begin(source)
        if not self.is_finished(result):
            result = self.advance(result, 0, len(self.stages))
        return self.finish(source, result)

    def begin(self, source: Clip) -> SourceResult:
        """The source before its first stage, or as far as an earlier run took it."""
        found = self._journal.find(source, self._store)
        if found and not found.reused:  # further stages read the source
            try:
                fetch(source)
            except MissingFileError:
                found = None  # the first stage will find that out as well
        return found or SourceResult(source.name, clips=[source])

    def is_finished(self, result: SourceResult) -> bool:
        """Whether an earlier run did the work."""
        return result.reused

    def check_place(self, source: Clip) -> None:
        """Refuse a machine that does not see the folders of input and output.

        Raises:
            ConfigError: it does not.
        """
        places = [] if source.stored else [source.source.parent]
        for folder in (self._store.output / ".work", *places):
            if not folder.is_dir():
                raise ConfigError(
                    f"The node '{platform.node()}' does not see the folder '{folder.absolute()}'. "
                    "All nodes need input and output under the same names: put them on a file "
                    "system that they share."
                )

    def advance(self, result: SourceResult, first: int, stop: int) -> SourceResult:
        """Take the clips of one source through some stages; a bad clip becomes a rejection.

        Stages that an earlier run has finished are passed over. Work that took long is journalled,
        so that a run that is killed later does not repeat it.

        Args:
            result: the source as the stages before left it.
            first: index of the first stage.
            stop: index of the stage after the last one.
        """
        for start, end in self._spans(max(first, result.num_stages), stop):
            stages = self.stages[start:end]
            spent_s = sum(result.stage_s.values())
            with explained_when_full(self._store.output), preferred_backend(self._decoder):
                _Pass(stages, result, self._store, self.on_stage, self._keep).run()
            result.num_stages = end
            known = next((clip.info for clip in result.clips if clip.info is not None), None)
            if known is not None:
                result.duration_s = known.declared_s
            elif start == 0:  # rejected; its length may be known all the same
                ends_s = [rejection.span_s[1] for rejection in result.rejections]
                result.duration_s = max(ends_s, default=0.0)
            if start == 0:  # before its first stage, a source's length is unknown
                result.stage_video_s[stages[0].name] = result.duration_s
            took_s = sum(result.stage_s.values()) - spent_s
            if took_s >= WORTH_KEEPING_S:
                self._keep(result)
        return result

    def finish(self, source: Clip, result: SourceResult) -> SourceResult:
        """Journal the result, and delete a copied source."""
        if not result.reused:
            self._journal.record(source, result)
            discard(source)
        return result

    def give_up(self, source: Clip, stage: str, detail: str) -> SourceResult:
        """The result of a source whose workers died."""
        lost = Rejection.of(source, stage or self.stages[0].name, WORKER_DIED, detail)
        return self.finish(source, SourceResult(source.name, rejections=[lost]))

    def _spans(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Stages that are taken together: single ones, then all that look at finished clips."""
        looking = [at for at, stage in enumerate(self.stages) if "suffixes" in stage.inputs]
        together = min(looking, default=stop)
        for at in range(first, min(together, stop)):
            yield at, at + 1
        if max(first, together) < stop:
            yield max(first, together), stop

    def _keep(self, result: SourceResult) -> None:
        clips = [*result.ahead, *result.clips]
        if clips:
            self._journal.record(clips[0], result, finished=False)


class _Pass:
    """One pass of a source's clips through some stages, clip by clip.

    Args:
        stages: the stages.
        result: the source's result, from which the clips are taken and into which outcomes are put.
        store: the files of the clips.
        on_stage: callback with the name of a stage before each call of it.
        keep: callback now and then with the result so far.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        result: SourceResult,
        store: ClipStore,
        on_stage: Callable[[str], None],
        keep: Callable[[SourceResult], None],
    ) -> None:
        self._stages, self._result, self._store = stages, result, store
        self._on_stage, self._keep = on_stage, keep
        #: By place of a batch stage, the clips that wait for it and what it saw of them.
        self._waiting: dict[int, list[tuple[Clip, Any]]] = {}
        for stage in stages:
            for spent in (result.stage_s, result.stage_cpu_s, result.stage_video_s):
                spent.setdefault(stage.name, 0.0)
            result.counts.setdefault(stage.name, (0, 0))

    def run(self) -> None:
        """Take all clips through all stages."""
        result, kept_s = self._result, time.monotonic()
        while result.clips:
            clip = result.clips[0]
            wanted = [stage.looks_at(clip) for stage in self._stages] if clip.num_frames else []
            with self._store.sharing(clip.clip_id, wanted):
                passed = self._through(clip, 0)
            result.clips = result.clips[1:]
            result.ahead += passed
            if time.monotonic() - kept_s > KEEP_EVERY_S and not any(self._waiting.values()):
                self._keep(result)
                kept_s = time.monotonic()
        for place in range(len(self._stages)):
            result.ahead += self._flush(place)
        result.clips, result.ahead = result.ahead, []

    def _through(self, clip: Clip, place: int) -> list[Clip]:
        """What is left of a clip after the stages from this place on, if known."""
        if place == len(self._stages):
            return [clip]
        stage = self._stages[place]
        self._enter(stage, clip)
        if isinstance(stage, BatchStage):
            with self._measured(stage):
                look = _try_again(stage, clip, lambda: stage.look(clip))
            if isinstance(look, Rejection):
                self._result.rejections.append(look)
                return []
            self._waiting.setdefault(place, []).append((clip, look))
            full = len(self._waiting[place]) >= stage.batch_size
            return self._flush(place) if full else []
        assert isinstance(stage, ClipStage)
        with self._measured(stage):
            out = _try_again(stage, clip, lambda: stage.process(clip))
        return self._onwards(out if isinstance(out, list) else [out], place)

    def _flush(self, place: int) -> list[Clip]:
        """Let a batch stage work on the clips that wait for it, and take them on from there."""
        waiting = self._waiting.pop(place, [])
        stage = self._stages[place]
        if not waiting or not isinstance(stage, BatchStage):
            return []
        self._on_stage(stage.name)
        with self._measured(stage):
            outs = _process_batch(stage, waiting)
        return self._onwards(outs, place)

    def _onwards(self, outs: Sequence[Result], place: int) -> list[Clip]:
        """Count what a stage let through, and take it through the stages after it."""
        name = self._stages[place].name
        passed = [out for out in outs if isinstance(out, Clip)]
        self._result.rejections += [out for out in outs if isinstance(out, Rejection)]
        entered, before = self._result.counts[name]
        self._result.counts[name] = (entered, before + len(passed))
        return [left for clip in passed for left in self._through(clip, place + 1)]

    def _enter(self, stage: Stage, clip: Clip) -> None:
        self._on_stage(stage.name)
        entered, passed = self._result.counts[stage.name]
        self._result.counts[stage.name] = (entered + 1, passed)
        self._result.stage_video_s[stage.name] += clip.length_s

    @contextmanager
    def _measured(self, stage: Stage) -> Iterator[None]:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        yield
        self._result.stage_s[stage.name] += time.perf_counter() - started_s
        self._result.stage_cpu_s[stage.name] += time.process_time() - started_cpu_s


def _process_batch(stage: BatchStage[Any], waiting: Sequence[tuple[Clip, Any]]) -> list[Result]:
    """One call for all, or one for each where that fails: the clip at fault costs no other."""
    clips, looks = zip(*waiting, strict=True)
    if len(clips) > 1:
        try:
            return stage.process_batch(clips, looks)
        except ENDS_THE_RUN:
            raise
        except Exception:  # noqa: BLE001  the clip at fault is found below, a full disk again
            pass
    results: list[Result] = []
    for clip, look in waiting:
        out = _try_again(stage, clip, partial(stage.process_batch, [clip], [look]))
        results += out if isinstance(out, list) else [out]
    return results


def _try_again(stage: Stage, clip: Clip, work: Callable[[], Any]) -> Any:
    """The result of some work on a clip, up to :data:`MAX_TRIES` times; else its rejection."""
    detail = ""
    for _ in range(MAX_TRIES):
        try:
            return work()
        except ENDS_THE_RUN:
            raise
        except InputError as error:
            return Rejection.of(clip, stage.name, "decode_failure", str(error))
        except Exception as error:
            if is_full(error):
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    return Rejection.of(clip, stage.name, FAILED, detail)


def _ignore_stage(stage: str) -> None:
    """The default of :attr:`SourceWorker.on_stage`."""
