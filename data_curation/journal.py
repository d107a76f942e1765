"""Finished work is not repeated: one small JSON file for each source remembers it.

An entry is written whole when the source is finished, and before that after work that took long;
the files of its clips are in the store by then. It is valid as long as the source, its sidecars,
the settings and the files of its clips are unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data_curation.clip import Clip, Rejection
from data_curation.sources.files import file_versions
from data_curation.store import ClipStore
from nemo_cosmos.exits import note_work
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import VideoInfo

#: A stage raised another error than :class:`InputError` in every attempt.
FAILED = "stage_failure"
#: The process that worked on the source died in every attempt.
WORKER_DIED = "worker_died"
#: Reasons of the dead letters: what may pass in another attempt (a full memory, a bug).
DEAD = (FAILED, WORKER_DIED)


@dataclass
class SourceResult:
    """What became of one source.

    Attributes:
        name: the source, as in :attr:`Clip.name`.
        clips: clips that passed all stages so far, in order of time.
        ahead: while the clips pass several stages one by one, those that have passed them; they
            come before the ones in ``clips``.
        rejections: spans that did not.
        counts: clips that entered and that left each stage, by its name.
        stage_video_s: seconds of video that entered each stage.
        stage_s: seconds spent in each stage.
        stage_cpu_s: seconds of cores spent in each stage.
        duration_s: length of the source; 0 when it could not be read.
        num_stages: number of stages that it has passed.
        reused: whether an earlier run did all the work.
    """

    name: str
    clips: list[Clip] = field(default_factory=list)
    ahead: list[Clip] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    stage_video_s: dict[str, float] = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=dict)
    stage_cpu_s: dict[str, float] = field(default_factory=dict)
    duration_s: float = 0.0
    num_stages: int = 0
    reused: bool = False

    @property
    def left_out_s(self) -> float:
        """Seconds of a source that was split which are in no clip and in no rejection.

        Those are the frames at changes of shot.
        """
        spans = [item.span_s for item in self.clips] + [item.span_s for item in self.rejections]
        if not spans or (0.0, 0.0) in spans:  # given up as a whole
            return 0.0
        return max(0.0, self.duration_s - sum(end - start for start, end in spans))


class Journal:
    """The entries of one output folder.

    Args:
        output: the run's output folder.
        settings: fingerprint of everything that decides the result.
        retry_dead: whether to forget the sources with dead letters, so that they are tried again.
    """

    def __init__(self, output: Path, settings: str, retry_dead: bool = False) -> None:
        self._retry_dead = retry_dead
        self._folder = output / ".work" / "sources"
        self._settings = settings

    def find(self, source: Clip, store: ClipStore) -> SourceResult | None:
        """The result of an earlier run for this very source and settings, if it is complete.

        Returns:
            The whole result, or one that has passed some of the stages; None where there is none.
        """
        path = self._path(source)
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if entry["state"] != self._state(source):
                return None
            result = _result_of(entry, source)
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or a damaged one
            return None
        if self._retry_dead and any(item.reason in DEAD for item in result.rejections):
            return None
        clips = [*result.ahead, *result.clips]
        if not all(store.has(clip.clip_id, clip.suffixes) for clip in clips):
            return None
        return result

    def record(self, source: Clip, result: SourceResult, finished: bool = True) -> None:
        """Remember the state of a source.

        Args:
            source: the source, or one of its clips.
            result: its result so far.
            finished: whether it has passed all stages.
        """
        clips = [*result.ahead, *result.clips]
        info = next((clip.info for clip in clips if clip.info is not None), None)
        entry = {
            "state": self._state(source),
            "finished": finished,
            "clips": [clip.to_json() for clip in result.clips],
            "ahead": [clip.to_json() for clip in result.ahead],
            "rejections": [rejection.to_json() for rejection in result.rejections],
            "counts": result.counts,
            "stage_video_s": result.stage_video_s,
            "stage_s": result.stage_s,
            "stage_cpu_s": result.stage_cpu_s,
            "duration_s": result.duration_s,
            "num_stages": result.num_stages,
            "info": None if info is None or finished else asdict(info),
        }
        with atomic_path(self._path(source)) as temporary:
            temporary.write_text(json.dumps(entry), encoding="utf-8")
        note_work()

    def _path(self, source: Clip) -> Path:
        digest = hashlib.sha256(source.name.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / digest[:2] / f"{digest[:32]}.json"

    def _state(self, source: Clip) -> Mapping[str, object]:
        return {"settings": self._settings, "files": file_versions(source)}


def _result_of(entry: Mapping[str, Any], source: Clip) -> SourceResult:
    """What :meth:`Journal.record` wrote."""
    info = None if entry["info"] is None else VideoInfo(**entry["info"])

    def read(clips: Sequence[Mapping[str, object]]) -> list[Clip]:
        found = [Clip.from_json(content, source.source) for content in clips]
        return [
            replace(clip, info=info, arrays=source.arrays, stored=source.stored) for clip in found
        ]

    return SourceResult(
        name=source.name,
        clips=read(entry["clips"]),
        ahead=read(entry["ahead"]),
        rejections=[Rejection.from_json(content) for content in entry["rejections"]],
        counts={stage: (count[0], count[1]) for stage, count in entry["counts"].items()},
        stage_video_s=entry["stage_video_s"],
        stage_s=entry["stage_s"],
        stage_cpu_s=entry["stage_cpu_s"],
        duration_s=entry["duration_s"],
        num_stages=entry["num_stages"],
        reused=entry["finished"],
    )
