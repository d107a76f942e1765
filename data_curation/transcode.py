"""Transcode: whole videos to one profile, under the names that they have."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import PurePosixPath

from data_curation.clip import Clip
from data_curation.executors import Executor
from data_curation.reporting.recorder import RunRecorder
from data_curation.run import CurateSummary, CurationRun, Outcome, Recipe
from data_curation.settings import CurateSettings
from data_curation.stages.base import Stage
from data_curation.stages.split import SplitSettings
from data_curation.store import ClipStore
from nemo_cosmos.progress import Show
from nemo_cosmos.storage import is_url

STAGES = ("probe", "split", "transcode")
#: A source is one piece, however long.
_WHOLE = SplitSettings(method="none", min_clip_s=0.0, max_clip_s=1e9)


def transcode(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: CurateSettings | None = None,
    executor: Executor | None = None,
    show: Show = "nothing",
    retry_dead: bool = False,
    work: str | os.PathLike[str] | None = None,
) -> CurateSummary:
    """Make an mp4 of the profile of each source, with its arrays; ``summary.json`` counts them.

    ``sub/a.mov`` becomes ``sub/a.mp4``, or ``sub/a.mov.mp4`` where a ``sub/a.avi`` exists as well;
    a source of a list that lies outside the list's folder goes below the id of its clip. What
    could not be used is in ``rejected.jsonl``.

    Args:
        source: the input, as for :func:`data_curation.pipeline.curate`.
        output: folder for the videos, on disk or in a bucket.
        settings: settings, of which those of *probe* and *transcode* and the decoder are used.
        executor: executor of the work; by default this process does it.
        show: live counts, rates and times on standard error.
        retry_dead: whether to try again what was given up.
        work: folder that a run for a bucket works in.

    Raises:
        ConfigError, MissingFileError, ServiceError, StorageFullError: as for ``curate``.
    """
    recipe = TranscodeRecipe(replace(settings or CurateSettings(), split=_WHOLE))
    return CurationRun(source, output, recipe, work).execute(executor, show, retry_dead)


class TranscodeRecipe(Recipe):
    """Probe and transcode alone; leaves the videos under their own names."""

    def build_stages(self, store: ClipStore) -> list[Stage]:
        """The stages up to *transcode*."""
        chosen = self.settings.by_stage()
        return [chosen[name].build(store) for name in STAGES]

    def recorded_settings(self) -> dict[str, object]:
        """The settings of *transcode*."""
        return asdict(self.settings.transcode)

    def write_clips(self, outcome: Outcome, store: ClipStore, recorder: RunRecorder) -> None:
        """Link the files of the store under the names of their sources, without a second copy."""
        for clip, name in zip(outcome.clips, names_of(outcome.clips), strict=True):
            for suffix in clip.suffixes:
                path = store.output / f"{name}.{suffix}"
                kept = store.path(clip.clip_id, suffix)
                if not path.exists() or not path.samefile(kept):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.unlink(missing_ok=True)
                    path.hardlink_to(kept)


def names_of(clips: Sequence[Clip]) -> list[str]:
    """Path of each clip below the output, without its files' endings; all are different."""
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
