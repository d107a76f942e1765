"""Show an evaluation: a table for the terminal, JSON for machines, a page for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_cosmos.errors import counted
from nemo_cosmos.evaluation.comparison import in_cell
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.evaluation.page import Shown, write_page
from nemo_cosmos.evaluation.record import write_record
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.storage import atomic_path

MAX_REASONS = 10
"""How many reasons a table shows; the files hold all."""

MAX_COLUMNS = 8
"""Metrics that a terminal shows side by side."""

if TYPE_CHECKING:
    from rich.table import Table


def scores_table(evaluation: Evaluation) -> Table:
    """A table with a row for each video and the mean, or the whole set's number, below.

    Of more metrics than fit side by side it is :func:`metrics_table`.

    Args:
        evaluation: the scores.
    """
    from rich.markup import escape
    from rich.table import Table

    if len(evaluation.metrics) > MAX_COLUMNS:
        return metrics_table(evaluation)
    table = Table(title=counted(len(evaluation.clips), "clip"), show_footer=True)
    table.add_column("clip", footer="mean")
    for metric in evaluation.metrics:
        footer = in_cell(evaluation.scores[metric.name])
        table.add_column(_header(metric), footer=footer, justify="right")
    for name, clip in evaluation.clips.items():
        numbers = [clip.scores.get(metric.name) for metric in evaluation.metrics]
        table.add_row(
            escape(name), *("" if number is None else f"{number:.3f}" for number in numbers)
        )
    return table


def metrics_table(evaluation: Evaluation) -> Table:
    """A table with a row for each metric, for evaluations of many metrics.

    Args:
        evaluation: the scores.
    """
    from rich.table import Table

    table = Table(title=counted(len(evaluation.clips), "clip"))
    table.add_column("metric", no_wrap=True)
    for header in ("unit", "value", "95 % interval", "n", "better"):
        table.add_column(header)
    for metric in evaluation.metrics:
        score = evaluation.scores[metric.name]
        direction = "higher" if metric.higher_is_better else "lower"
        row = (metric.name, metric.unit, f"{score.value:.3f}", score.interval, str(score.num))
        table.add_row(*row, direction if metric.is_quality else "")
    return table


def left_out(evaluation: Evaluation) -> str:
    """Which videos and metrics have no score, and why, in lines; empty where all have."""
    lines = [
        _counted("skipped", evaluation.skipped),
        _counted("not computed", evaluation.not_computed),
        *(_counted(f"without {metric}", found) for metric, found in evaluation.lacking.items()),
    ]
    return "\n".join(filter(None, lines))


def _counted(what: str, reasons: Mapping[str, str]) -> str:
    """One line for several videos or metrics; empty for none."""
    if not reasons:
        return ""
    shown = [f"{name}: {reason}" for name, reason in list(reasons.items())[:MAX_REASONS]]
    if len(reasons) > MAX_REASONS:
        shown.append(f"and {len(reasons) - MAX_REASONS} more, see evaluation.json")
    return f"{len(reasons)} {what}: {'; '.join(shown)}"


def write_report(
    evaluation: Evaluation,
    folder: Path,
    record: Mapping[str, Any],
    shown: Shown | None = None,
) -> None:
    """Write ``evaluation.json``, ``curves.json``, and the page and table for people, each whole.

    Args:
        evaluation: the scores.
        folder: where the files go; made if it is missing.
        record: what :func:`~nemo_cosmos.evaluation.record.make_record` made of the scores.
        shown: what the page can show besides figures.

    Raises:
        StorageFullError: no space left.
    """
    curves: dict[str, dict[str, list[float]]] = {}
    for name, clip in evaluation.clips.items():
        for metric, curve in clip.curves.items():
            curves.setdefault(metric, {})[name] = curve
    _write_json(folder / "curves.json", {"first_frame": evaluation.first_frame, "curves": curves})
    write_page(evaluation, record, folder, shown)
    write_record(record, folder)


def _header(metric: Metric) -> str:
    arrow = "higher is better" if metric.higher_is_better else "lower is better"
    return f"{metric.name}\n{metric.unit or '-'}, {arrow}"


def _write_json(path: Path, content: object) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
