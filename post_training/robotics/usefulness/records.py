"""What a trial of usefulness keeps: finished parts for a restart, and the record of the whole."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nemo_cosmos.evaluation.statistics import BOOTSTRAP_SEED, LEVEL, NUM_RESAMPLES, Score
from nemo_cosmos.provenance.record import library_versions
from nemo_cosmos.storage import atomic_path

FORMAT = "nemo_cosmos.usefulness"
VERSION = 1
WORK_FOLDER = ".work"


class Journal:
    """Finished parts below a folder: a JSON file for each, written whole.

    A part counts as long as everything that it depends on is the same.

    Args:
        folder: where the parts are; None to keep none.
        about: what all parts depend on, as plain data.
    """

    def __init__(self, folder: Path | None, about: object) -> None:
        self._folder = folder
        self._about = about

    def part(self, name: str, about: object, compute: Callable[[], Any]) -> Any:
        """Return a part: the kept one, or a new one, which is kept.

        Args:
            name: its name.
            about: what this part depends on besides.
            compute: makes it, as plain data.

        Raises:
            StorageFullError: no space left.
        """
        if self._folder is None:
            return compute()
        content = json.dumps([VERSION, library_versions(), self._about, name, about], default=str)
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        file = self._folder / WORK_FOLDER / f"{name}-{digest}.json"
        try:
            return json.loads(file.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            pass  # there is none, or it is damaged; it is computed and written again
        found = compute()
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(found), "utf-8")
        return found


@dataclass(frozen=True)
class Figure:
    """A number of a trial and what it says.

    Attributes:
        score: the number with its interval.
        description: what it says, in a few words.
        unit: its unit; empty for none.
    """

    score: Score
    description: str
    unit: str = ""


def make_record(
    kind: str,
    figures: Mapping[str, Figure],
    rows: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    duration_s: float,
) -> dict[str, Any]:
    """Return the record of a trial, with all that is needed to do it again.

    Args:
        kind: ``ranking`` or ``planning``.
        figures: its numbers by name.
        rows: the lines of its table.
        inputs: the world and the settings.
        duration_s: how long it took, without what an earlier run had finished.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": round(duration_s, 3),
        "scores": {
            name: {**one.score.to_json(), "unit": one.unit, "description": one.description}
            for name, one in figures.items()
        },
        "interval": {"level": LEVEL, "seed": BOOTSTRAP_SEED, "resamples": NUM_RESAMPLES},
        "rows": [dict(row) for row in rows],
        "inputs": dict(inputs),
        "versions": library_versions(),
        "machine": {"processor": platform.processor() or platform.machine()},
    }


def write_record(record: Mapping[str, Any], folder: Path) -> None:
    """Write ``KIND.json``, and ``KIND.md`` for people, each whole.

    Raises:
        StorageFullError: no space left.
    """
    stem = folder / str(record["kind"])
    with atomic_path(stem.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", "utf-8")
    with atomic_path(stem.with_suffix(".md")) as temporary:
        temporary.write_text(_markdown(record), "utf-8")


def _markdown(record: Mapping[str, Any]) -> str:
    """The tables of a record as Markdown."""
    scores = [
        [name, f"{one['value']:.3f}", _interval(one), one["unit"], one["description"]]
        for name, one in record["scores"].items()
    ]
    parts = [_table(["score", "value", "95 % interval", "unit", "what it says"], scores)]
    rows = record["rows"]
    if rows:
        parts.append(_table(list(rows[0]), [[_cell(v) for v in row.values()] for row in rows]))
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _interval(score: Mapping[str, Any]) -> str:
    return "" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"
