"""Where the time went: a page of its own beside the report, because it differs from run to run."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from data_curation.reporting.report import render
from data_curation.reporting.tally import StageCost
from nemo_cosmos.aliases import JsonObject

TIMINGS_FILE = "timings.html"
_NUM_SLOWEST = 20


def write_timings(path: Path, metrics: Path) -> None:
    """Write the page.

    Args:
        path: the file.
        metrics: ``metrics.jsonl`` of all runs; the latest work on each source counts.
    """
    sources, run = _latest_work(metrics)
    costs: defaultdict[str, StageCost] = defaultdict(StageCost)
    for source in sources:
        for stage, wall_s in source["stage_s"].items():
            # A source that was rejected before this stage took no time in it.
            video_s = source["source_s"] if wall_s else 0.0
            costs[stage].add(0, video_s, wall_s, source["stage_cpu_s"][stage])
    for stage, cost in run.items():
        if stage not in costs:  # sees all clips at once
            costs[stage].add(0, cost["video_s"], cost["wall_s"], cost["core_s"])
    total_s = max(sum(cost.wall_s for cost in costs.values()), 1e-9)
    stages = [
        {"name": stage, "share": cost.wall_s / total_s, **cost.to_json()}
        for stage, cost in costs.items()
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


def _latest_work(metrics: Path) -> tuple[list[JsonObject], dict[str, dict[str, float]]]:
    """A line for each source that was worked on, and the costs of stages in the last whole run."""
    latest, run = {}, {}
    with metrics.open(encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            if item["event"] == "run":
                run = item["stages"]
            elif not item["reused"]:
                latest[item["source"]] = item
    return list(latest.values()), run


def _source(item: JsonObject) -> JsonObject:
    spent: dict[str, float] = item["stage_s"]
    return {
        "name": item["source"],
        "source_s": item["source_s"],
        "wall_s": sum(spent.values()),
        "stage": max(spent, key=lambda stage: spent[stage], default="-"),
    }
