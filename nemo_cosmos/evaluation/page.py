"""The page that a person opens after an evaluation: figures with intervals, curves, and videos.

``evaluation.html`` stands alone: pictures and videos are inside. Of the videos it shows the worst,
the median and the best by each of a few metrics, since a mean hides what failed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nemo_cosmos.errors import InputError
from nemo_cosmos.evaluation.benchmarks.table import published_markdown, published_table
from nemo_cosmos.evaluation.drift import PER_FRAMES, drift
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.evaluation.record import EVALUATION_FILE
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.statistics import Score
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import decode, resize_frames
from nemo_cosmos.video.pictures import side_by_side, video_uri

PAGE_FILE = "evaluation.html"
MARKDOWN_FILE = "evaluation.md"
NUM_CARDS = 6
NUM_GROUPS = 3
"""How many metrics show their worst, median and best videos."""
SHOWN_WIDTH_PX = 256
_GREEN, _GREY = "#5b8f00", "#9aa5a0"

VideosOf = Mapping[str, Mapping[str, Path]]
"""For each video's name, the files to show side by side by their label."""


def write_page(
    evaluation: Evaluation, record: Mapping[str, Any], folder: Path, videos: VideosOf | None = None
) -> Path:
    """Write ``evaluation.html`` and ``evaluation.md``.

    Args:
        evaluation: the scores.
        record: the content of ``evaluation.json``.
        folder: where the files go.
        videos: what can be shown; without it, figures alone.

    Returns:
        The page.

    Raises:
        StorageFullError: no space left.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nemo_cosmos.evaluation", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    slopes = drift(evaluation)
    rows = [_row(metric, evaluation.scores[metric.name]) for metric in evaluation.metrics]
    rows += [_slope_row(name, score) for name, score in slopes.items()]
    about = {name: record[name] for name in ("inputs", "versions", "machine", "interval")}
    text = environment.get_template("page.html.jinja").render(
        title=_title(record),
        subtitle=_subtitle(record),
        cards=[_row(m, evaluation.scores[m.name]) for m in _headline(evaluation)],
        told=_told_plots(evaluation),
        rows=rows,
        curves=[
            _curve_plot(evaluation, m, slopes[m.name])
            for m in evaluation.metrics
            if m.name in slopes
        ],
        groups=_groups(evaluation, videos or {}, folder),
        skipped=evaluation.skipped,
        published=published_table(record),
        not_computed=evaluation.not_computed,
        lacking=evaluation.lacking,
        file=folder / EVALUATION_FILE,
        inputs=json.dumps(about, indent=2, default=str),
    )
    page = folder / PAGE_FILE
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_path(folder / MARKDOWN_FILE) as temporary:
        temporary.write_text(_markdown(record, rows), encoding="utf-8")
    return page


def _title(record: Mapping[str, Any]) -> str:
    inputs = record["inputs"]
    place = Path(
        str(inputs.get("world") or inputs.get("tokenizer") or inputs.get("generated") or "videos")
    )
    return "/".join(place.parts[-2:])


def _subtitle(record: Mapping[str, Any]) -> str:
    taken = record["duration_s"]
    parts = [
        f"{record['num_clips']} videos",
        record["created_utc"],
        f"nemo_cosmos {record['versions']['nemo_cosmos']}",
    ]
    return " · ".join([*parts, *([] if taken is None else [f"{taken:.0f} s"])])


def _headline(evaluation: Evaluation) -> list[Metric]:
    """Metrics for the top of the page: obedience first, then quality of the own control."""
    named = [metric for metric in evaluation.metrics if metric.is_quality]
    first = [metric for metric in named if metric.name.endswith(("_sensitivity", "_response"))]
    own = [metric for metric in named if metric.kind != "measured"]
    return [*first, *own][:NUM_CARDS]


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
        if not metric.is_quality or "." in metric.name:  # psnr.x0 is one of psnr's bars
            continue
        others = [name for name in evaluation.scores if name.startswith(f"{metric.name}.")]
        if not others:
            continue
        names = [metric.name, *others]
        figure, axes = _axes()
        for place, name in enumerate(names):
            score = evaluation.scores[name]
            axes.bar(place, score.value, color=_GREEN if place == 0 else _GREY, width=0.7)
            if score.low is not None and score.high is not None:
                axes.plot([place, place], [score.low, score.high], color="#1d2421", linewidth=1.5)
        labels = ["own", *(name.removeprefix(f"{metric.name}.") for name in others)]
        axes.set_xticks(range(len(names)), labels)
        direction = "higher" if metric.higher_is_better else "lower"
        axes.set_title(f"{metric.name} ({direction} is better)", fontsize=10)
        _zoom(axes, [evaluation.scores[name] for name in names])
        plots.append(_svg(figure))
    return plots


def _zoom(axes: Axes, scores: Sequence[Score]) -> None:
    """Start the axis near the lowest value where bars from zero would all look alike."""
    found = [end for score in scores for end in (score.low, score.high, score.value)]
    ends = [end for end in found if end is not None]
    low, high = min(ends), max(ends)
    if low > 0 and high - low < 0.5 * high:
        margin = 0.3 * (high - low) or 0.1 * high
        axes.set_ylim(low - margin, high + margin / 2)


def _curve_plot(evaluation: Evaluation, metric: Metric, slope: Score) -> str:
    """The numbers of each frame: every video thin, the mean thick."""
    figure, axes = _axes()
    curves = [
        clip.curves[metric.name] for clip in evaluation.clips.values() if metric.name in clip.curves
    ]
    first = evaluation.first_frame
    for curve in curves:
        axes.plot(range(first, first + len(curve)), curve, color=_GREY, linewidth=0.6, alpha=0.7)
    shortest = min(map(len, curves))
    mean_T = np.mean([curve[:shortest] for curve in curves], axis=0)
    axes.plot(range(first, first + shortest), mean_T, color=_GREEN, linewidth=2)
    axes.set_xlabel("frame")
    axes.set_ylabel(f"{metric.name}, {metric.unit}" if metric.unit else metric.name)
    axes.set_title(f"{slope.value:+.2f} in {PER_FRAMES} frames", fontsize=10)
    return _svg(figure)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _groups(evaluation: Evaluation, videos: VideosOf, folder: Path) -> list[dict[str, Any]]:
    """The worst, median and best video by each of a few metrics."""
    names = [name for name in evaluation.clips if name in videos]
    if not names:
        return []
    # Numbers of a whole set rank no single video.
    chosen = [
        metric
        for metric in _headline(evaluation)
        if not metric.name.endswith("_response")
        and any(metric.name in evaluation.clips[name].scores for name in names)
    ][:NUM_GROUPS]
    groups = []
    for metric in chosen:
        scored = [name for name in names if metric.name in evaluation.clips[name].scores]
        scored.sort(key=lambda name: evaluation.clips[name].scores[metric.name])
        if not metric.higher_is_better:
            scored.reverse()
        if not scored:  # it applies to none of the videos that are there
            continue
        places = {"worst": 0, "median": len(scored) // 2, "best": len(scored) - 1}
        ranks: dict[str, str] = {}
        for rank, place in places.items():
            ranks.setdefault(scored[place], rank)
        cases = [
            _case(name, rank, metric, evaluation, videos[name], folder)
            for name, rank in ranks.items()
        ]
        groups.append({"metric": metric.name, "cases": [case for case in cases if case]})
    return groups


def _case(
    name: str,
    rank: str,
    metric: Metric,
    evaluation: Evaluation,
    files: Mapping[str, Path],
    folder: Path,
) -> dict[str, Any] | None:
    """One figure; None where a video has gone."""
    shown, fps = {}, 1.0
    try:
        for label, file in files.items():
            video = decode(file)
            fps = video.fps
            height, width = video.frames_THWC.shape[1:3]
            size = (round(height * SHOWN_WIDTH_PX / width), SHOWN_WIDTH_PX)
            shown[label] = resize_frames(video.frames_THWC, size)
    except (InputError, OSError):
        return None
    frames_THWC = side_by_side(shown, scale=1)
    stem = Path(name).stem
    score = evaluation.clips[name].scores[metric.name]
    return {
        "uri": video_uri(frames_THWC, fps, folder / "shown" / f"{stem}.mp4"),
        "rank": rank,
        "name": name,
        "score": f"{score:.3f} {metric.unit}".strip(),
    }


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
    lines += ["", *(f"- skipped {name}: {why}" for name, why in record["skipped"].items())]
    lines += [f"- not computed {name}: {why}" for name, why in record["not_computed"].items()]
    lines += [
        f"- {metric} without {name}: {why}"
        for metric, found in record["lacking"].items()
        for name, why in found.items()
    ]
    lines += published_markdown(published_table(record))
    return "\n".join(lines).rstrip() + "\n"
