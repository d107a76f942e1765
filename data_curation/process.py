"""Probe and transcode alone: whole videos to the profile, under the names that they have."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

from data_curation.executors import Executor
from data_curation.journal import Journal
from data_curation.metrics import RunMetrics
from data_curation.pipeline import (
    LOCAL_FILES,
    SUMMARY_FILE,
    CurateSummary,
    dataset_stages,
    fingerprint,
    run_sources,
    summarise,
    write_lines,
)
from data_curation.progress import CurateProgress, Show
from data_curation.run_folder import claimed, run_folder_of
from data_curation.settings import OPTIONAL_STAGES, CurateSettings
from data_curation.sources import find_sources
from data_curation.stages.base import Clip
from data_curation.stages.split import SplitSettings
from data_curation.store import ClipStore
from data_curation.worker import SourceWorker
from nemo_cosmos.storage import atomic_path, claim_place, is_bucket, is_url, mirror_folder

STAGES = ("probe", "split", "transcode")
#: A source is one piece, however long.
_WHOLE = SplitSettings(method="none", min_clip_s=0.0, max_clip_s=1e9)


def process(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: CurateSettings | None = None,
    executor: Executor | None = None,
    show: Show = "nothing",
    retry_dead: bool = False,
    work: str | os.PathLike[str] | None = None,
) -> CurateSummary:
    """Make an mp4 of the profile of each source, with its arrays; ``summary.json`` counts them.

    ``sub/a.mov`` becomes ``sub/a.mp4``, or ``sub/a.mov.mp4`` where there is a ``sub/a.avi``, too;
    a source of a list that lies outside of the list's folder goes below the id of its clip. What
    could not be used is in ``rejected.jsonl``.

    Args:
        source: as of :func:`data_curation.pipeline.curate`, as is all but the settings.
        output: folder for the videos, on disk or in a bucket.
        settings: those of *probe* and *transcode*, and the decoder, are used.
        executor: where to run; by default in this process.
        show: live counts, rates and times on standard error.
        retry_dead: try again what was given up.
        work: where a run for a bucket works.

    Raises:
        ConfigError, MissingFileError, ServiceError, StorageFullError: as ``curate``.
    """
    settings = replace(settings or CurateSettings(), split=_WHOLE, skip=OPTIONAL_STAGES)
    target = run_folder_of(output, work)
    if is_bucket(output):
        claim_place(target, os.fspath(output))
    sources = find_sources(source, target, output)
    store = ClipStore(target)
    stages = [stage for stage in settings.build_stages(store) if stage.name in STAGES]
    for stage in stages:
        stage.prepare()
    journal = Journal(target, fingerprint(stages, settings), retry_dead)
    worker = SourceWorker(stages, store, journal, settings.decoder)
    with claimed(target), CurateProgress(len(sources), STAGES, show) as progress:
        metrics = RunMetrics(target)
        results = run_sources(worker, sources, executor, progress, metrics)
        clips, rejections, counts = dataset_stages(stages, results, progress, metrics)
        _place(clips, store, target)
        summary = summarise(results, clips, rejections, counts)
        write_lines(target / "rejected.jsonl", rejections)
        with atomic_path(target / SUMMARY_FILE) as temporary:
            content = {**asdict(summary), "settings": asdict(settings.transcode)}
            del content["num_reused"]
            temporary.write_text(json.dumps(content, indent=2) + "\n")
        metrics.run_done()
        if is_bucket(output):
            place = os.fspath(output)
            mirror_folder(target, place, SUMMARY_FILE, LOCAL_FILES, progress.file_done)
    return summary


def _place(clips: Sequence[Clip], store: ClipStore, target: Path) -> None:
    """Show the files of the store under the names of their sources, without a second copy."""
    for clip, name in zip(clips, names_of(clips), strict=True):
        for suffix in clip.suffixes:
            path = target / f"{name}.{suffix}"
            kept = store.path(clip.clip_id, suffix)
            if not path.exists() or not path.samefile(kept):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                path.hardlink_to(kept)


def names_of(clips: Sequence[Clip]) -> list[str]:
    """Where each goes below the output, without the endings of its files; no two are the same."""
    paths = [PurePosixPath(clip.name) for clip in clips]
    stems = Counter(path.with_suffix("") for path in paths)
    names = [path if stems[path.with_suffix("")] > 1 else path.with_suffix("") for path in paths]
    found = Counter(names)
    return [
        f"{clip.clip_id}/{path.stem}" if found[name] > 1 or _is_outside(clip.name) else str(name)
        for clip, path, name in zip(clips, paths, names, strict=True)
    ]


def _is_outside(name: str) -> bool:
    path = PurePosixPath(name)
    return is_url(name) or path.is_absolute() or ".." in path.parts
