"""Where the time went: a page of its own beside the report, because it differs from run to run."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from data_curation.report import render

_NUM_SLOWEST = 20


def write_timings(path: Path, metrics: Path) -> None:
    """Write the page.

    Args:
        path: the file.
        metrics: ``metrics.jsonl`` of all runs; of each source the latest work counts.
    """
    sources = _latest_work(metrics)
    wall_s, core_s, video_s = (defaultdict[str, float](float) for _ in range(3))
    for source in sources:
        for stage, seconds in source["stage_s"].items():
            wall_s[stage] += seconds
            core_s[stage] += source["stage_cpu_s"].get(stage, 0.0)
            video_s[stage] += source["source_s"]
    total_s = max(sum(wall_s.values()), 1e-9)
    stages = [
        {
            "name": stage,
            "wall_s": wall_s[stage],
            "core_s": core_s[stage],
            "share": wall_s[stage] / total_s,
            "speed": video_s[stage] / core_s[stage] if core_s[stage] else None,
        }
        for stage in wall_s
    ]
    slowest = sorted((_source(item) for item in sources), key=lambda item: -item["wall_s"])
    render(
        path,
        "timings.html.j2",
        stages=stages,
        slowest=slowest[:_NUM_SLOWEST],
        num_sources=len(sources),
        video_s=sum(item["source_s"] for item in sources),
    )


def _latest_work(metrics: Path) -> list[dict[str, Any]]:
    """Lines of sources that were worked on, one for each."""
    latest = {}
    with metrics.open(encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            if item["event"] == "source" and not item["reused"]:
                latest[item["source"]] = item
    return list(latest.values())


def _source(item: dict[str, Any]) -> dict[str, Any]:
    spent: dict[str, float] = item["stage_s"]
    return {
        "name": item["source"],
        "source_s": item["source_s"],
        "wall_s": sum(spent.values()),
        "stage": max(spent, key=lambda stage: spent[stage], default="-"),
    }
