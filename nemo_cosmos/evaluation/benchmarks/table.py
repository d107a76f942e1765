"""Published figures beside one's own, as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nemo_cosmos.evaluation.benchmarks.published import Published

#: Key in ``evaluation.json``.
PUBLISHED_KEY = "published"
_METRICS = ("psnr", "ssim", "rfvd_i3d")


def published_record(rows: Sequence[Published], suite: str | None) -> dict[str, Any]:
    """What a record holds of published figures.

    Args:
        rows: the figures.
        suite: the suite that was asked for.
    """
    return {"suite": suite, "rows": [row.to_json() for row in rows]}


def published_table(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rows to show: the recorded numbers first, then the published ones.

    Args:
        record: the content of ``evaluation.json``.

    Returns:
        the note, the metrics' names and the rows; None where nothing was published.
    """
    published = record.get(PUBLISHED_KEY)
    if not published or not published["rows"]:
        return None
    scores = {name: score["value"] for name, score in record["scores"].items()}
    own = {
        "tokenizer": "this one",
        "videos": f"the {record['num_clips']} of this evaluation",
        "numbers": _numbers(scores),
        "source": "",
    }
    rows = [
        {
            "tokenizer": f"{row['tokenizer']} ({row['compression']})",
            "videos": row["benchmark"],
            "numbers": _numbers(row["scores"]),
            "source": row["source"],
        }
        for row in published["rows"]
    ]
    benchmarks = " and ".join(dict.fromkeys(row["benchmark"] for row in published["rows"]))
    note = (
        f"Of other tokenizers on the videos of {benchmarks}, as their authors published them. "
        "Another data set gives other numbers: compare with them only where this evaluation is of "
        "the same videos, prepared in the same way."
    )
    return {"note": note, "metrics": _METRICS, "rows": [own, *rows]}


def published_markdown(table: Mapping[str, Any] | None) -> list[str]:
    """The lines of the same table for a README or an issue; none without a table."""
    if table is None:
        return []
    header = ["tokenizer", "videos", *table["metrics"], "source"]
    lines = ["", "## Published figures", "", table["note"], "", f"| {' | '.join(header)} |"]
    lines.append("|" + "---|" * len(header))
    for row in table["rows"]:
        cells = [row["tokenizer"], row["videos"], *row["numbers"], row["source"]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _numbers(scores: Mapping[str, float]) -> list[str]:
    return [f"{scores[name]:.3f}" if name in scores else "" for name in _METRICS]
