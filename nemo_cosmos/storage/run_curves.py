"""The curves of a training run: ``metrics.jsonl``, a line of JSON for each step that was logged."""

from __future__ import annotations

import json
from pathlib import Path

from nemo_cosmos.aliases import JsonObject

METRICS_FILE = "metrics.jsonl"


def read_curves(run: Path) -> list[JsonObject]:
    """Lines of a run's ``metrics.jsonl``; a last line that a kill cut short is left out.

    Args:
        run: the run's folder, or the file; without curves the list is empty.
    """
    path = run if run.name == METRICS_FILE else run / METRICS_FILE
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if isinstance(line, dict):
            lines.append(line)
    return lines
