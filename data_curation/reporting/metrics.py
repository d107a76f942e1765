"""How fast a run was, in ``metrics.jsonl``: a line for each source, and one for the run.

Nothing else that a run writes depends on time, except the page that is made of this file.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from data_curation.journal import SourceResult
from data_curation.reporting.tally import Tally

METRICS_FILE = "metrics.jsonl"
_LONGEST_LINE_BYTES = 1 << 20


class MetricsFile:
    """Appends lines while a run works; cuts off half a line that a killed run left.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS_FILE
        with self.path.open("ab+") as handle:
            handle.seek(-min(handle.tell(), _LONGEST_LINE_BYTES), os.SEEK_END)
            rest = handle.read()
            handle.truncate(handle.tell() - len(rest) + rest.rfind(b"\n") + 1)

    def source_done(self, result: SourceResult) -> None:
        """Append one line for a finished source."""
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

    def run_done(self, tally: Tally) -> None:
        """Append one line for the run, with the throughput of each stage."""
        elapsed_s = tally.elapsed_s
        self._append(
            {
                "event": "run",
                "elapsed_s": round(elapsed_s, 3),
                "sources": tally.num_worked,
                "clips": tally.num_clips_worked,
                "video_s": round(tally.video_s, 3),
                "clips_per_s": round(tally.num_clips_worked / elapsed_s, 3),
                "video_s_per_s": round(tally.video_s_per_s, 3),
                "stages": {stage: cost.to_json() for stage, cost in tally.costs.items()},
            }
        )

    def _append(self, line: Mapping[str, object]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"time": now, **line}) + "\n")


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
