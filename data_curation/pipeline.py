"""Curate: the whole road from raw video to shards, a report and an index of embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from data_curation.clip import Clip
from data_curation.deduplication.index import write_index
from data_curation.executors import Executor
from data_curation.journal import DEAD
from data_curation.reporting.recorder import RunRecorder
from data_curation.reporting.report import write_report
from data_curation.run import CurateSummary, CurationRun, Outcome, Recipe, write_lines
from data_curation.settings import CurateSettings
from data_curation.stages.base import Stage
from data_curation.stages.shard import write_shards
from data_curation.store import ClipStore
from nemo_cosmos.progress import Show


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

    A source that fails or kills its worker three times is given up and listed in
    ``dead_letter.jsonl``; the run continues with the others.

    Args:
        source: a folder, file, glob pattern or ``.txt`` list of videos, on disk or in a bucket.
        output: folder for the results, on disk or in a bucket; run again with the same folder to
            resume or to add sources.
        settings: settings of the stages.
        executor: executor of the work; by default this process does it.
        show: live counts, rates and times on standard error: for ``people``, or as ``json`` lines.
        retry_dead: whether to try again what was given up.
        work: folder that a run for a bucket works in and resumes from; see
            :func:`nemo_cosmos.storage.work_folder_of`.

    Raises:
        ConfigError: another run is writing to the output, or a bucket holds other results there.
        MissingFileError: the input holds no video, or a bucket does not exist.
        ServiceError: a bucket gave no answer in all tries; run again to resume.
        StorageFullError: no space left; free some and run again to resume.
    """
    recipe = CurateRecipe(settings or CurateSettings())
    return CurationRun(source, output, recipe, work).execute(executor, show, retry_dead)


class CurateRecipe(Recipe):
    """All stages of the settings; leaves shards, embeddings and a report."""

    def build_stages(self, store: ClipStore) -> list[Stage]:
        """The stages of the settings, without those that are skipped."""
        return self.settings.build_stages(store)

    def recorded_settings(self) -> dict[str, object]:
        """The settings of every stage and of the run."""
        return self.settings.to_json()

    def write_clips(self, outcome: Outcome, store: ClipStore, recorder: RunRecorder) -> None:
        """Write the shards and the index of embeddings."""
        clips, size_bytes = outcome.clips, self.settings.max_shard_bytes
        with recorder.step("shard", clips, shown_as="shards") as advance:
            write_shards(clips, store, store.output, size_bytes, advance)
        write_index(clips, store, store.output)

    def finish(self, outcome: Outcome, store: ClipStore, summary: Mapping[str, object]) -> None:
        """Write the dead letters and the report; delete the files that the shards hold now.

        A clip that a stage rejected after its source was done, such as a duplicate, keeps its files
        for a later run, in which the other one may be gone.
        """
        dead = [item for item in outcome.rejections if item.reason in DEAD]
        write_lines(store.output / "dead_letter.jsonl", dead)
        path = store.output / "report.html"
        write_report(path, summary, outcome.clips, outcome.rejections, store)
        finished = _ids(clip for result in outcome.results for clip in result.clips)
        store.clear(keep=finished - _ids(outcome.clips))


def _ids(clips: Iterable[Clip]) -> set[str]:
    return {clip.clip_id for clip in clips}
