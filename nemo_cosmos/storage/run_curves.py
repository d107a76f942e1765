"""The curves of a training run: ``metrics.jsonl``, a line of JSON for each step that was logged."""

from __future__ import annotations

import json
from pathlib import Path

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import MissingFileError

METRICS_FILE = "metrics.jsonl"


def curves_file(run: Path) -> Path:
    """The file of a run's curves.

    Args:
        run: the run's folder, or the file.
    """
    return run if run.name == METRICS_FILE else run / METRICS_FILE


def check_curves(run: Path) -> None:
    """Refuse a run without curves, where someone asks for them.

    Args:
        run: the run's folder, or the file.

    Raises:
        MissingFileError: it has none.
    """
    file = curves_file(run)
    if not file.is_file():
        raise MissingFileError(
            f"There are no training curves '{file}'. Name the folder of a training run, or its "
            f"{METRICS_FILE}, or leave --training out."
        )


def read_curves(run: Path) -> list[JsonObject]:
    """Lines of a run's ``metrics.jsonl``; a last line that a kill cut short is left out.

    Args:
        run: the run's folder, or the file; without curves the list is empty.
    """
    path = curves_file(run)
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
