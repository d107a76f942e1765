"""How fast a run went, in ``metrics.jsonl``: a line for each source, and one for the run.

Nothing else that a run writes depends on time.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_curation.journal import SourceResult

_LONGEST_LINE_BYTES = 1 << 20


class RunMetrics:
    """Adds lines to the file as the run goes; half a line that a killed run left is cut off.

    Args:
        output: the run's output folder.
    """

    def __init__(self, output: Path) -> None:
        self._path = output / "metrics.jsonl"
        self._started_s = time.monotonic()
        self._results: list[SourceResult] = []
        with self._path.open("ab+") as handle:
            handle.seek(-min(handle.tell(), _LONGEST_LINE_BYTES), os.SEEK_END)
            rest = handle.read()
            handle.truncate(handle.tell() - len(rest) + rest.rfind(b"\n") + 1)

    def source_done(self, result: SourceResult) -> None:
        """One line for a finished source."""
        if not result.reused:
            self._results.append(result)
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

    def run_done(self) -> None:
        """One line for the run, with the throughput of each stage."""
        self._append(
            {
                "event": "run",
                "elapsed_s": round(time.monotonic() - self._started_s, 3),
                "sources": len(self._results),
                "video_s": round(sum(result.duration_s for result in self._results), 3),
                "stages": throughput(self._results),
            }
        )

    def _append(self, line: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"time": now, **line}) + "\n")


def throughput(results: Iterable[SourceResult]) -> dict[str, dict[str, float]]:
    """By stage: what went in and what it cost.

    Returns:
        ``clips`` that entered; ``wall_s`` and ``core_s`` spent; ``clips_per_s`` of one worker, and
        ``video_s_per_core_s``, seconds of source video for each second of one core.
    """
    clips: Counter[str] = Counter()
    wall_s: defaultdict[str, float] = defaultdict(float)
    core_s: defaultdict[str, float] = defaultdict(float)
    video_s: defaultdict[str, float] = defaultdict(float)
    for result in results:
        for stage, (num_entered, _) in result.counts.items():
            clips[stage] += num_entered
            wall_s[stage] += result.stage_s.get(stage, 0.0)
            core_s[stage] += result.stage_cpu_s.get(stage, 0.0)
            video_s[stage] += result.duration_s if num_entered else 0.0
    return {
        stage: {
            "clips": clips[stage],
            "wall_s": round(wall_s[stage], 3),
            "core_s": round(core_s[stage], 3),
            "clips_per_s": round(clips[stage] / max(wall_s[stage], 1e-9), 3),
            "video_s_per_core_s": round(video_s[stage] / max(core_s[stage], 1e-9), 3),
        }
        for stage in clips
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in seconds.items()}
