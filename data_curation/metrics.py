"""How fast a run went, in ``metrics.jsonl``: a line for each source, and one for the run.

Nothing else that a run writes depends on time, but for the page that is made of it.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_curation.journal import SourceResult
from data_curation.stages.base import Clip

_LONGEST_LINE_BYTES = 1 << 20


@dataclass
class StageCost:
    """What entered a stage, and what it cost.

    Attributes:
        clips: that entered, or sources before they are split.
        video_s: their length.
        wall_s: seconds of workers.
        core_s: seconds of cores.
    """

    clips: int = 0
    video_s: float = 0.0
    wall_s: float = 0.0
    core_s: float = 0.0

    def add(self, clips: int, video_s: float, wall_s: float, core_s: float) -> None:
        """Count some more."""
        self.clips += clips
        self.video_s += video_s
        self.wall_s += wall_s
        self.core_s += core_s

    def to_json(self) -> dict[str, float]:
        """With ``clips_per_s`` of one worker and ``video_s_per_core_s`` of one core."""
        rates = {
            "clips_per_s": self.clips / max(self.wall_s, 1e-9),
            "video_s_per_core_s": self.video_s / max(self.core_s, 1e-9),
        }
        return _rounded(asdict(self) | rates)


class RunMetrics:
    """Adds lines to the file as the run goes; half a line that a killed run left is cut off.

    Args:
        output: the run's output folder.
    """

    def __init__(self, output: Path) -> None:
        self.path = output / "metrics.jsonl"
        self._started_s = time.monotonic()
        self._num_sources = self._num_clips = 0
        self._video_s = 0.0
        self._costs: defaultdict[str, StageCost] = defaultdict(StageCost)
        with self.path.open("ab+") as handle:
            handle.seek(-min(handle.tell(), _LONGEST_LINE_BYTES), os.SEEK_END)
            rest = handle.read()
            handle.truncate(handle.tell() - len(rest) + rest.rfind(b"\n") + 1)

    def source_done(self, result: SourceResult) -> None:
        """One line for a finished source."""
        if not result.reused:
            self._count(result)
        self._append(
            {
                "event": "source",
                "source": result.name,
                "source_s": result.duration_s,
                "clips": len(result.clips),
                "rejected": Counter(rejection.reason for rejection in result.rejections),
                "stage_s": _rounded(result.stage_s),
                "stage_cpu_s": _rounded(result.stage_cpu_s),
                "reused": result.reused,
            }
        )

    @contextmanager
    def measuring(self, stage: str, clips: Sequence[Clip]) -> Iterator[None]:
        """Count what is done with all clips at once: a stage that sees all, or the shards."""
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        yield
        self._costs[stage].add(
            len(clips),
            sum(clip.length_s for clip in clips),
            time.perf_counter() - started_s,
            time.process_time() - started_cpu_s,
        )

    def run_done(self) -> None:
        """One line for the run, with the throughput of each stage."""
        elapsed_s = time.monotonic() - self._started_s
        self._append(
            {
                "event": "run",
                "elapsed_s": round(elapsed_s, 3),
                "sources": self._num_sources,
                "clips": self._num_clips,
                "video_s": round(self._video_s, 3),
                "clips_per_s": round(self._num_clips / elapsed_s, 3),
                "video_s_per_s": round(self._video_s / elapsed_s, 3),
                "stages": {stage: cost.to_json() for stage, cost in self._costs.items()},
            }
        )

    def _count(self, result: SourceResult) -> None:
        self._num_sources += 1
        self._num_clips += len(result.clips)
        self._video_s += result.duration_s
        for stage, wall_s in result.stage_s.items():
            num_entered, _ = result.counts[stage]
            video_s, core_s = result.stage_video_s[stage], result.stage_cpu_s[stage]
            self._costs[stage].add(num_entered, video_s, wall_s, core_s)

    def _append(self, line: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"time": now, **line}) + "\n")


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
