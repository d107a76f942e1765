"""Write the page that a person opens after an evaluation: figures with intervals, curves, videos.

``evaluation.html`` stands alone: pictures and videos are inside. Of the videos it shows the worst,
the median and the best by each metric, since a mean hides what failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from nemo_cosmos.evaluation.benchmarks.table import published_markdown, published_table
from nemo_cosmos.evaluation.drift import PER_FRAMES, drift
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.evaluation.page.cases import Clips, extremes
from nemo_cosmos.evaluation.page.failures import by_reason
from nemo_cosmos.evaluation.page.plots import curve_plot, told_plot, training_plots
from nemo_cosmos.evaluation.page.shown import Shown
from nemo_cosmos.evaluation.record import EVALUATION_FILE
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.statistics import Score
from nemo_cosmos.storage import atomic_path

PAGE_FILE = "evaluation.html"
MARKDOWN_FILE = "evaluation.md"
NUM_CARDS = 6
NUM_OPEN = 3
"""How many metrics show their extremes without a click."""


def write_page(
    evaluation: Evaluation, record: Mapping[str, Any], folder: Path, shown: Shown | None = None
) -> Path:
    """Write ``evaluation.html`` and ``evaluation.md``.

    Args:
        evaluation: the scores.
        record: the content of ``evaluation.json``.
        folder: where the files go.
        shown: what can be shown besides figures.

    Returns:
        The page.

    Raises:
        StorageFullError: no space left.
    """
    shown = shown or Shown()
    slopes, clips = drift(evaluation), Clips(shown, folder)
    headline = _headline(evaluation)
    own: list[dict[str, str]] = []
    others: list[dict[str, str]] = []
    for metric in evaluation.metrics:
        row = _row(metric, evaluation.scores[metric.name])
        (others if _told_of(metric, evaluation) else own).append(row)
    own += [_slope_row(name, score) for name, score in slopes.items()]
    about = {name: record[name] for name in ("inputs", "versions", "machine", "interval")}
    compared = [m for m in headline if not m.name.endswith("_response")] if shown.videos else []
    text = _template().render(
        title=_title(record),
        subtitle=_subtitle(record),
        cards=[_row(m, evaluation.scores[m.name]) for m in headline[:NUM_CARDS]],
        told=_told_plots(evaluation),
        rows=own,
        other_rows=others,
        curves=[
            curve_plot(evaluation, m, slopes[m.name])
            for m in evaluation.metrics
            if m.name in slopes
        ],
        published=published_table(record),
        training=training_plots(shown.training),
        groups=extremes(evaluation, compared, clips),
        num_open=NUM_OPEN,
        clips=clips.uris,
        controls=clips.controls,
        skipped=by_reason(evaluation.skipped),
        not_computed=by_reason(evaluation.not_computed),
        lacking={metric: by_reason(found) for metric, found in evaluation.lacking.items()},
        file=folder / EVALUATION_FILE,
        inputs=json.dumps(about, indent=2, default=str),
    )
    page = folder / PAGE_FILE
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_path(folder / MARKDOWN_FILE) as temporary:
        temporary.write_text(_markdown(record, [*own, *others]), encoding="utf-8")
    return page


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nemo_cosmos.evaluation.page", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.jinja")


def _title(record: Mapping[str, Any]) -> str:
    inputs = record["inputs"]
    place = Path(
        str(inputs.get("world") or inputs.get("tokenizer") or inputs.get("generated") or "videos")
    )
    return "/".join(place.parts[-2:])


def _subtitle(record: Mapping[str, Any]) -> str:
    taken, lost = record["duration_s"], len(record["skipped"])
    parts = [
        f"{record['num_clips']} videos" + (f", {lost} without a score" if lost else ""),
        record["created_utc"],
        f"nemo_cosmos {record['versions']['nemo_cosmos']}",
    ]
    return " · ".join([*parts, *([] if taken is None else [f"{taken:.0f} s"])])


def _headline(evaluation: Evaluation) -> list[Metric]:
    """Metrics by what they say: obedience first, then quality of the own control."""
    named = [metric for metric in evaluation.metrics if metric.is_quality]
    first = [metric for metric in named if metric.name.endswith(("_sensitivity", "_response"))]
    own = [metric for metric in named if metric.kind != "measured"]
    return [*first, *own]


def _told_of(metric: Metric, evaluation: Evaluation) -> str:
    """The metric that this one is of another control, such as psnr of ``psnr.x0``; else empty."""
    name = metric.name.partition(".")[0]
    return name if name != metric.name and name in evaluation.scores else ""


def _row(metric: Metric, score: Score) -> dict[str, str]:
    unit = f" {metric.unit}" if metric.unit else ""
    direction = "higher" if metric.higher_is_better else "lower"
    return {
        "name": metric.name,
        "value": f"{score.value:.3f}{unit}",
        "interval": score.interval,
        "num": str(score.num),
        "better": direction if metric.is_quality else "",
        "text": metric.description,
    }


def _slope_row(name: str, score: Score) -> dict[str, str]:
    return {
        "name": f"{name}, drift",
        "value": f"{score.value:+.3f}",
        "interval": score.interval,
        "num": str(score.num),
        "better": "",
        "text": f"change of {name} in {PER_FRAMES} frames",
    }


def _told_plots(evaluation: Evaluation) -> list[str]:
    """For each metric that has numbers of other controls, its mean by what was told."""
    plots = []
    for metric in evaluation.metrics:
        others = [
            other.name for other in evaluation.metrics if _told_of(other, evaluation) == metric.name
        ]
        if metric.is_quality and others:
            plots.append(told_plot(metric, evaluation.scores, others))
    return plots


def _markdown(record: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> str:
    """The same figures as a table for a README or an issue."""
    lines = [
        f"# Evaluation of {_title(record)}",
        "",
        _subtitle(record),
        "",
        "| metric | value | 95 % interval | n | better |",
        "|---|---|---|---|---|",
    ]
    keys = ("name", "value", "interval", "num", "better")
    lines += ["| " + " | ".join(row[key] for key in keys) + " |" for row in rows]
    reasons = {
        "skipped": by_reason(record["skipped"]),
        "not computed": by_reason(record["not_computed"]),
        **{f"without {metric}": by_reason(found) for metric, found in record["lacking"].items()},
    }
    lines.append("")
    for what, found in reasons.items():
        lines += [f"- {len(one.names)} {what}: {one.shown}: {one.text}" for one in found]
    lines += published_markdown(published_table(record))
    return "\n".join(lines).rstrip() + "\n"
