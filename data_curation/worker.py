"""Takes one source through the clip and batch stages; what fails again and again is given up."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

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

#: Seconds of work after which a source's state is remembered before it is finished.
WORTH_KEEPING_S = 1.0
#: What no other file would fare better with: the run ends, and the same command goes on from there.
ENDS_THE_RUN = (StorageFullError, ServiceError)


class SourceWorker:
    """The work that executors spread: a source in, what became of it out.

    Args:
        stages: clip and batch stages, in order.
        store: where finished clips wait.
        journal: where results are remembered.
        decoder: what decodes video; see :class:`data_curation.settings.CurateSettings`.
    """

    def __init__(
        self, stages: Sequence[Stage], store: ClipStore, journal: Journal, decoder: str = "auto"
    ) -> None:
        self.stages = list(stages)
        self.on_stage: Callable[[str], None] = _nobody_listens
        self._store = store
        self._journal = journal
        self._decoder = decoder

    def __call__(self, source: Clip) -> SourceResult:
        """Work on one source, or find in the journal what came of it."""
        result = self.begin(source)
        for index in range(0 if self.is_finished(result) else len(self.stages)):
            result = self.advance(result, index)
        return self.finish(source, result)

    def begin(self, source: Clip) -> SourceResult:
        """The source before its first stage, or as far as an earlier run came with it."""
        found = self._journal.find(source, self._store)
        if found and not found.reused:  # further stages read the source
            try:
                fetch(source)
            except MissingFileError:
                found = None  # which the first stage finds out as well
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

    def advance(self, result: SourceResult, index: int) -> SourceResult:
        """Take the clips of one source through one stage; a bad one becomes a rejection.

        A stage that an earlier run has done is passed over. One that took long is remembered, so
        that a run that is killed later does not do it again.
        """
        if index < result.num_stages:
            return result
        stage = self.stages[index]
        self.on_stage(stage.name)
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        entered_s = sum(clip.length_s for clip in result.clips)
        with explained_when_full(self._store.output), preferred_backend(self._decoder):
            passed = [
                out for batch in _batches(stage, result.clips) for out in _run(stage, batch, result)
            ]
        result.stage_s[stage.name] = time.perf_counter() - started_s
        result.stage_cpu_s[stage.name] = time.process_time() - started_cpu_s
        result.counts[stage.name] = (len(result.clips), len(passed))
        result.clips = passed
        result.num_stages = index + 1
        if passed and passed[0].info is not None:
            result.duration_s = passed[0].info.duration_s
        # Before the first stage, nobody knows how long a source is.
        result.stage_video_s[stage.name] = entered_s or result.duration_s * (index == 0)
        if passed and result.stage_s[stage.name] >= WORTH_KEEPING_S:
            self._journal.record(passed[0], result, finished=False)
        return result

    def finish(self, source: Clip, result: SourceResult) -> SourceResult:
        """Remember the result, and let go of a copied source."""
        if not result.reused:
            self._journal.record(source, result)
            discard(source)
        return result

    def give_up(self, source: Clip, stage: str, detail: str) -> SourceResult:
        """The result of a source whose workers died."""
        lost = Rejection.of(source, stage or self.stages[0].name, WORKER_DIED, detail)
        return self.finish(source, SourceResult(source.name, rejections=[lost]))


def _nobody_listens(stage: str) -> None:
    """What :attr:`SourceWorker.on_stage` is where no executor asks."""


def _run(stage: Stage, clips: list[Clip], result: SourceResult) -> list[Clip]:
    """One stage on one batch; a failure becomes a counted rejection, or ends the run."""
    if isinstance(stage, BatchStage) and len(clips) > 1:
        try:
            return _sort_out(stage.process_batch(clips), result)
        except ENDS_THE_RUN:
            raise
        except Exception:  # noqa: BLE001  the clip at fault is found below, a full disk again
            return [out for clip in clips for out in _run(stage, [clip], result)]
    out = _try_again(stage, clips[0])
    return _sort_out(out if isinstance(out, list) else [out], result)


def _try_again(stage: Stage, clip: Clip) -> Result | list[Result]:
    """One stage on one clip, up to :data:`MAX_TRIES` times."""
    detail = ""
    for _ in range(MAX_TRIES):
        try:
            return _once(stage, clip)
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


def _once(stage: Stage, clip: Clip) -> Result | list[Result]:
    if isinstance(stage, BatchStage):
        return stage.process_batch([clip])
    assert isinstance(stage, ClipStage)
    return stage.process(clip)


def _batches(stage: Stage, clips: list[Clip]) -> list[list[Clip]]:
    size = stage.batch_size if isinstance(stage, BatchStage) else 1
    return [clips[first : first + size] for first in range(0, len(clips), size)]


def _sort_out(outs: Sequence[Result], result: SourceResult) -> list[Clip]:
    """The clips that passed; rejections go into the result."""
    result.rejections += [item for item in outs if isinstance(item, Rejection)]
    return [item for item in outs if isinstance(item, Clip)]
