"""The whole road: sources in, shards and a report out; a re-run resumes.

Each source goes through the stages of scope ``clip`` by itself (that is what executors spread); its
result is journalled. Then the stages of scope ``dataset`` see all clips in order of name, and what
is left is sharded. Everything that is written depends on the input and the settings alone, but for
``metrics.jsonl`` and ``timings.html``: a run that was killed and run again leaves the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_curation.deduplication.index import write_index
from data_curation.executors import Executor, InlineExecutor
from data_curation.journal import DEAD, Journal, SourceResult
from data_curation.metrics import RunMetrics
from data_curation.progress import CurateProgress, Show
from data_curation.report import write_report
from data_curation.run_folder import claimed, run_folder_of
from data_curation.settings import CurateSettings
from data_curation.sources import find_sources
from data_curation.stages.base import Clip, Rejection, Stage, check_order
from data_curation.stages.shard import write_shards
from data_curation.store import ClipStore
from data_curation.timings import write_timings
from data_curation.worker import SourceWorker
from nemo_cosmos.storage import atomic_path, claim_place, is_bucket, mirror_folder
from nemo_cosmos.video import preferred_backend

#: What a run left, in numbers; in a bucket it says that the rest is complete.
SUMMARY_FILE = "summary.json"
#: What is of the run and not of its results.
LOCAL_FILES = ("metrics.jsonl", "timings.html")


@dataclass(frozen=True)
class CurateSummary:
    """What a run left; also in ``summary.json``.

    Attributes:
        num_sources: videos found.
        num_clips: samples written.
        clips_s: their length in seconds.
        sources_s: length of the sources that could be read, in seconds.
        left_out_s: of that, frames at changes of shot, which are in no clip and in no rejection.
        rejected: how many sources or spans were rejected, by reason.
        stages: by stage, how many entered and how many left.
        num_reused: sources whose result an earlier run left (not in ``summary.json``).
        num_dead: sources and spans that were given up, listed in ``dead_letter.jsonl``.
    """

    num_sources: int
    num_clips: int
    clips_s: float
    sources_s: float
    left_out_s: float
    rejected: dict[str, int]
    stages: dict[str, tuple[int, int]]
    num_reused: int = 0
    num_dead: int = 0


def fingerprint(stages: Iterable[Stage], settings: CurateSettings) -> str:
    """Checksum of everything that decides what these stages make of a source."""
    parts: list[Any] = [
        [stage.name, stage.version, asdict(getattr(settings, stage.name))]
        for stage in stages
        if stage.scope != "dataset"
    ]
    parts.append(settings.decoder)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def curate(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: CurateSettings | None = None,
    executor: Executor | None = None,
    show: Show = "nothing",
    retry_dead: bool = False,
    work: str | os.PathLike[str] | None = None,
) -> CurateSummary:
    """Turn raw video into shards: ``output/v0``, ``report.html``, ``summary.json``.

    A source that fails or kills its worker three times is given up, and listed in
    ``dead_letter.jsonl``, while the rest goes on.

    Args:
        source: a folder, file, glob pattern or ``.txt`` list of videos, on disk or in a bucket.
        output: folder for the results, on disk or in a bucket; run again with the same to go on or
            to add sources.
        settings: how to split, encode and filter.
        executor: where to run; by default in this process.
        show: live counts, rates and times on standard error: for ``people``, or as ``json`` lines.
        retry_dead: try again what was given up.
        work: where a run for a bucket works and keeps what the next one goes on from; see
            :func:`data_curation.run_folder.run_folder_of`.

    Raises:
        ConfigError: another run is writing to the output, or a bucket holds other results there.
        MissingFileError: the input holds no video, or a bucket is not there.
        ServiceError: a bucket gave no answer in all tries; run again to go on.
        StorageFullError: no space left; free some and run again, it goes on where it stopped.
    """
    settings = settings or CurateSettings()
    target = run_folder_of(output, work)
    if is_bucket(output):
        claim_place(target, os.fspath(output))
    sources = find_sources(source, target, output)
    store = ClipStore(target)
    stages = settings.build_stages(store)
    check_order(stages)
    for stage in stages:
        stage.prepare()
    journal = Journal(target, fingerprint(stages, settings), retry_dead)
    worker = SourceWorker(
        [stage for stage in stages if stage.scope != "dataset"], store, journal, settings.decoder
    )
    names = [stage.name for stage in stages]
    with claimed(target), CurateProgress(len(sources), names, show) as progress:
        metrics = RunMetrics(target)
        results = run_sources(worker, sources, executor, progress, metrics)
        with preferred_backend(settings.decoder):
            clips, rejections, counts = dataset_stages(stages, results, progress, metrics)
        progress.dataset_done(counts, rejections)
        with progress.counting("shards", len(clips)) as advance, metrics.measuring("shard", clips):
            write_shards(clips, store, target, settings.max_shard_bytes, advance)
        write_index(clips, store, target)
        summary = summarise(results, clips, rejections, counts)
        _write_results(target, summary, settings, clips, rejections, store)
        store.clear(keep=_ids(clip for result in results for clip in result.clips) - _ids(clips))
        metrics.run_done()
        write_timings(target / "timings.html", metrics.path)
        if is_bucket(output):
            place = os.fspath(output)
            mirror_folder(target, place, SUMMARY_FILE, LOCAL_FILES, progress.file_done)
    return summary


def run_sources(
    worker: SourceWorker,
    sources: Sequence[Clip],
    executor: Executor | None,
    progress: CurateProgress,
    metrics: RunMetrics,
) -> list[SourceResult]:
    """What became of each source, by name; shown and counted as they are finished."""
    results = []
    for result in (executor or InlineExecutor()).run(worker, sources):
        results.append(result)
        progress.source_done(result)
        metrics.source_done(result)
    return sorted(results, key=lambda result: result.name)


def dataset_stages(
    stages: Sequence[Stage],
    results: Sequence[SourceResult],
    progress: CurateProgress,
    metrics: RunMetrics,
) -> tuple[list[Clip], list[Rejection], dict[str, tuple[int, int]]]:
    """Clips after the stages that see all of them, all rejections, and the counts per stage."""
    clips = [clip for result in results for clip in result.clips]
    rejections = [rejection for result in results for rejection in result.rejections]
    counts = {}
    for stage in stages:
        if stage.scope != "dataset":
            pairs = [result.counts.get(stage.name, (0, 0)) for result in results]
            counts[stage.name] = (sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs))
            continue
        counting = progress.counting(stage.name, len(clips))
        with counting as advance, metrics.measuring(stage.name, clips):
            outs = stage.process_all(clips, advance)
        passed = [out for out in outs if isinstance(out, Clip)]
        rejections += [out for out in outs if isinstance(out, Rejection)]
        counts[stage.name] = (len(clips), len(passed))
        clips = passed
    rejections.sort(key=lambda rejection: (rejection.name, rejection.span_s, rejection.stage))
    return clips, rejections, counts


def _ids(clips: Iterable[Clip]) -> set[str]:
    return {clip.clip_id for clip in clips}


def summarise(
    results: Sequence[SourceResult],
    clips: Sequence[Clip],
    rejections: Sequence[Rejection],
    counts: dict[str, tuple[int, int]],
) -> CurateSummary:
    """Count what became of all sources."""
    reasons = Counter(rejection.reason for rejection in rejections)
    return CurateSummary(
        num_sources=len(results),
        num_clips=len(clips),
        clips_s=round(sum(clip.num_frames / clip.fps for clip in clips), 3),
        sources_s=round(sum(result.duration_s for result in results), 3),
        left_out_s=round(sum(result.left_out_s for result in results), 3),
        rejected=dict(sorted(reasons.items())),
        stages=counts,
        num_reused=sum(result.reused for result in results),
        num_dead=sum(reasons[reason] for reason in DEAD),
    )


def _write_results(
    target: Path,
    summary: CurateSummary,
    settings: CurateSettings,
    clips: Sequence[Clip],
    rejections: Sequence[Rejection],
    store: ClipStore,
) -> None:
    """``summary.json``, ``rejected.jsonl`` and ``report.html``."""
    content: dict[str, Any] = {**asdict(summary), "settings": asdict(settings)}
    del content["num_reused"]
    with atomic_path(target / SUMMARY_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    write_lines(target / "rejected.jsonl", rejections)
    write_lines(target / "dead_letter.jsonl", [item for item in rejections if item.reason in DEAD])
    write_report(target / "report.html", content, clips, rejections, store)


def write_lines(path: Path, rejections: Iterable[Rejection]) -> None:
    """Write one JSON line for each rejection."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{json.dumps(item.to_json())}\n" for item in rejections))
