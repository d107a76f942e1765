"""A run of curation: sources in, results out; run again, it resumes.

What a run makes is decided by its recipe: which stages, with which settings, and what is written of
the clips that are left. :func:`data_curation.pipeline.curate` and
:func:`data_curation.transcode.transcode` are the two recipes.

Each source passes the stages that see single clips by itself (executors spread that work) and its
result is journalled. Then the stages that see all clips take them in order of name. All that is
written depends on the input and the settings alone, except ``metrics.jsonl`` and ``timings.html``:
a run that was killed and run again leaves the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from data_curation.clip import Clip, Rejection
from data_curation.executors import Executor, InlineExecutor
from data_curation.journal import DEAD, Journal, SourceResult
from data_curation.reporting.metrics import METRICS_FILE
from data_curation.reporting.recorder import RunRecorder
from data_curation.reporting.timings import TIMINGS_FILE, write_timings
from data_curation.settings import CurateSettings
from data_curation.sources.apart import check_results_apart
from data_curation.sources.files import FETCHED
from data_curation.sources.find import find_sources
from data_curation.sources.robot_data import refuse_robot_data
from data_curation.stages.base import DatasetStage, Stage, check_order
from data_curation.store import ClipStore
from data_curation.worker import SourceWorker
from nemo_cosmos.options import check_instance, check_place
from nemo_cosmos.progress import Show
from nemo_cosmos.storage import (
    atomic_path,
    claim_place,
    is_bucket,
    mirror_folder,
    work_folder_of,
)
from nemo_cosmos.storage.one_run import claimed
from nemo_cosmos.video import preferred_backend

#: Counts of a run; in a bucket, the file that says that the rest is complete.
SUMMARY_FILE = "summary.json"
#: Files that describe how the run went and not what it made; they are not put into a bucket.
LOCAL_FILES = (METRICS_FILE, TIMINGS_FILE)


@dataclass(frozen=True)
class CurateSummary:
    """The counts of a run; also in ``summary.json``.

    Attributes:
        num_sources: videos found.
        num_clips: clips written.
        clips_s: seconds of the sources that they show.
        sources_s: length of all sources, as far as their files say it, in seconds: the sum of
            ``clips_s``, ``left_out_s`` and all of ``rejected_s``.
        left_out_s: seconds of these at changes of shot, which are in no clip and no rejection.
        rejected: number of rejected sources and spans, by reason.
        rejected_s: their seconds, by reason.
        stages: clips that entered and that left each stage, by its name.
        num_reused: sources whose result an earlier run left (not in ``summary.json``).
        num_dead: sources and spans that were given up, listed in ``dead_letter.jsonl``.
        ignored: number of files in the input that are no video and belong to none, by ending.
    """

    num_sources: int
    num_clips: int
    clips_s: float
    sources_s: float
    left_out_s: float
    rejected: dict[str, int]
    rejected_s: dict[str, float]
    stages: dict[str, tuple[int, int]]
    num_reused: int = 0
    num_dead: int = 0
    ignored: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of all sources.

    Attributes:
        results: one for each source, in order of name.
        clips: the clips that passed every stage, in order of source and span.
        rejections: everything else, sorted.
        counts: clips that entered and that left each stage, by its name.
    """

    results: list[SourceResult]
    clips: list[Clip]
    rejections: list[Rejection]
    counts: dict[str, tuple[int, int]]


class Recipe(ABC):
    """What a run makes of its sources.

    Args:
        settings: settings of the stages.
    """

    def __init__(self, settings: CurateSettings) -> None:
        self.settings = settings

    @abstractmethod
    def build_stages(self, store: ClipStore) -> list[Stage]:
        """The stages, in order."""

    @abstractmethod
    def recorded_settings(self) -> dict[str, object]:
        """The settings that ``summary.json`` records."""

    @abstractmethod
    def write_clips(self, outcome: Outcome, store: ClipStore, recorder: RunRecorder) -> None:
        """Write the clips that are left to the run's folder, whole or not at all."""

    def finish(  # noqa: B027  a recipe may have nothing to add
        self, outcome: Outcome, store: ClipStore, summary: Mapping[str, object]
    ) -> None:
        """Write what else the run leaves, and delete files that nothing needs any more.

        Args:
            outcome: the outcome of all sources.
            store: the files of the clips.
            summary: content of ``summary.json``.
        """


class CurationRun:
    """One run of a recipe.

    Args:
        source: a folder, file, glob pattern or ``.txt`` list of videos, on disk or in a bucket.
        output: folder for the results, on disk or in a bucket; run again with the same folder to
            resume or to add sources.
        recipe: stages, settings and results of the run.
        work: folder that a run for a bucket works in and resumes from; see
            :func:`nemo_cosmos.storage.work_folder_of`.

    Raises:
        ConfigError: a bucket holds other results at the output.
        InputError: input and output are not apart, or the input is a robot data set, whose actions
            would be lost.
        MissingFileError: the input holds no video, or a bucket does not exist.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        output: str | os.PathLike[str],
        recipe: Recipe,
        work: str | os.PathLike[str] | None = None,
    ) -> None:
        check_place("source", source)
        check_place("output", output)
        check_instance("settings", recipe.settings, CurateSettings, "Write CurateSettings(...).")
        self.output = os.fspath(output)
        self.folder = work_folder_of(output, work)
        if is_bucket(output):
            claim_place(self.folder, self.output)
        self.recipe = recipe
        #: Files of the input that are no video, by ending.
        self.ignored: Counter[str] = Counter()
        self.sources = find_sources(source, self.folder, output, self.ignored)
        if not recipe.settings.videos_only:
            refuse_robot_data(source, self.sources)
        check_results_apart(source, output, self.folder, self.sources)
        self.store = ClipStore(self.folder)
        self.stages = recipe.build_stages(self.store)
        check_order(self.stages)

    def execute(
        self, executor: Executor | None = None, show: Show = "nothing", retry_dead: bool = False
    ) -> CurateSummary:
        """Work on all sources and write the results.

        Args:
            executor: executor of the work; by default this process does it.
            show: audience of live counts, rates and times on standard error.
            retry_dead: whether to try again what was given up.

        Raises:
            ConfigError: another run is writing to the output.
            ServiceError: a bucket gave no answer in all tries; run again to resume.
            StorageFullError: no space left; free some and run again to resume.
        """
        for stage in self.stages:
            stage.prepare()
        worker = self._worker(retry_dead)
        names = [stage.name for stage in self.stages]
        with (
            claimed(self.folder, [FETCHED]),
            RunRecorder(self.folder, len(self.sources), names, show) as recorder,
        ):
            results = []
            for result in (executor or InlineExecutor()).run(worker, self.sources):
                results.append(result)
                recorder.source_done(result)
            outcome = self._see_all_clips(results, recorder)
            self.recipe.write_clips(outcome, self.store, recorder)
            summary = self._write_records(outcome)
            recorder.run_done()
            write_timings(self.folder / TIMINGS_FILE, self.folder / METRICS_FILE)
            if is_bucket(self.output):
                mirror_folder(
                    self.folder, self.output, SUMMARY_FILE, LOCAL_FILES, recorder.file_done
                )
        return summary

    def _worker(self, retry_dead: bool) -> SourceWorker:
        """The work that executors spread: everything up to the stages that see all clips."""
        settings = self.recipe.settings
        stages = [stage for stage in self.stages if not isinstance(stage, DatasetStage)]
        journal = Journal(self.folder, fingerprint(stages, settings), retry_dead)
        return SourceWorker(stages, self.store, journal, settings.decoder)

    def _see_all_clips(self, results: list[SourceResult], recorder: RunRecorder) -> Outcome:
        """Take what is left of the sources through the stages that see all clips."""
        # Sources end in any order; from here on, only their names decide.
        results = sorted(results, key=lambda result: result.name)
        clips = [clip for result in results for clip in result.clips]
        rejections = [rejection for result in results for rejection in result.rejections]
        counts = {}
        with preferred_backend(self.recipe.settings.decoder):
            for stage in self.stages:
                if not isinstance(stage, DatasetStage):
                    pairs = [result.counts.get(stage.name, (0, 0)) for result in results]
                    counts[stage.name] = sum(each[0] for each in pairs), sum(e[1] for e in pairs)
                    continue
                with recorder.step(stage.name, clips) as advance:
                    outs = stage.process_all(clips, advance)
                passed = [out for out in outs if isinstance(out, Clip)]
                rejections += [out for out in outs if isinstance(out, Rejection)]
                counts[stage.name] = (len(clips), len(passed))
                clips = passed
        rejections.sort(key=lambda rejection: (rejection.name, rejection.span_s, rejection.stage))
        recorder.dataset_done(counts, rejections)
        return Outcome(results, clips, rejections, counts)

    def _write_records(self, outcome: Outcome) -> CurateSummary:
        """Write ``summary.json``, ``rejected.jsonl`` and what the recipe adds."""
        summary = replace(summarise(outcome), ignored=dict(sorted(self.ignored.items())))
        content = {**asdict(summary), "settings": self.recipe.recorded_settings()}
        del content["num_reused"]
        with atomic_path(self.folder / SUMMARY_FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        write_lines(self.folder / "rejected.jsonl", outcome.rejections)
        self.recipe.finish(outcome, self.store, content)
        return summary


def fingerprint(stages: Iterable[Stage], settings: CurateSettings) -> str:
    """Checksum of everything that decides what these stages make of a source."""
    chosen = settings.by_stage()
    parts: list[object] = [
        [stage.name, stage.version, asdict(chosen[stage.name])]  # type: ignore[call-overload]
        for stage in stages
    ]
    parts.append(settings.decoder)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def summarise(outcome: Outcome) -> CurateSummary:
    """Count what became of all sources."""
    reasons = Counter(rejection.reason for rejection in outcome.rejections)
    lost_s: dict[str, float] = dict.fromkeys(reasons, 0.0)
    for rejection in outcome.rejections:
        lost_s[rejection.reason] += rejection.span_s[1] - rejection.span_s[0]
    return CurateSummary(
        num_sources=len(outcome.results),
        num_clips=len(outcome.clips),
        clips_s=round(sum(clip.length_s for clip in outcome.clips), 3),
        sources_s=round(sum(result.duration_s for result in outcome.results), 3),
        left_out_s=round(sum(result.left_out_s for result in outcome.results), 3),
        rejected=dict(sorted(reasons.items())),
        rejected_s={reason: round(seconds, 3) for reason, seconds in sorted(lost_s.items())},
        stages=outcome.counts,
        num_reused=sum(result.reused for result in outcome.results),
        num_dead=sum(reasons[reason] for reason in DEAD),
    )


def write_lines(path: Path, rejections: Sequence[Rejection]) -> None:
    """Write one JSON line for each rejection."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            "".join(f"{json.dumps(item.to_json())}\n" for item in rejections), encoding="utf-8"
        )
