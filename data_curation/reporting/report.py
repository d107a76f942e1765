"""The page that a person looks at after a run: counts, histograms, thumbnails, lineage, settings.

It depends on what was curated and nothing else, so that a run that was stopped and run again leaves
the same report; times are on a page of their own (:mod:`data_curation.reporting.timings`).
"""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from data_curation.clip import Clip, Rejection
from data_curation.store import ClipStore
from nemo_cosmos.storage import atomic_path

#: Thumbnails of kept clips, of each reason, and sources that the page shows; it says how many
#: there are in all.
MAX_KEPT = 120
MAX_OF_A_REASON = 24
MAX_SOURCES = 200
_NUM_BINS = 8
_LABELS = {"camera_motion": "Camera", "video_type": "Type", "environment": "Environment"}


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: its label, its count, its length in percent of the longest."""

    label: str
    count: int
    percent: float


@dataclass(frozen=True)
class Picture:
    """One thumbnail: a data URL (or None) and the text below it."""

    url: str | None
    title: str
    span: str
    text: str
    tags: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True)
class Reason:
    """Everything that was rejected for one reason by one stage."""

    name: str
    stage: str
    count: int
    pictures: list[Picture]


@dataclass(frozen=True)
class StageRow:
    """What entered a stage, what it let through, and why not the rest."""

    name: str
    entered: int
    passed: int
    most: int
    reasons: str


@dataclass(frozen=True)
class Piece:
    """A span on the line of its source: place and width in percent, and what became of it."""

    left: float
    width: float
    kept: bool
    title: str


@dataclass(frozen=True)
class SourceLine:
    """A source with the spans that were cut from it."""

    name: str
    pieces: list[Piece]
    text: str


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    clips: Sequence[Clip],
    rejections: Sequence[Rejection],
    store: ClipStore,
) -> None:
    """Write one self-contained HTML file.

    Args:
        path: the file.
        summary: content of ``summary.json``.
        clips: the clips that were written.
        rejections: everything else.
        store: the store of the thumbnails.
    """
    render(
        path,
        "report.html.j2",
        summary=summary,
        stages=_stage_rows(summary["stages"], rejections),
        labels=_label_charts(clips),
        histograms=_histograms(clips),
        kept=[_kept(clip, store) for clip in clips[:MAX_KEPT]],
        rejected=_reasons(rejections, store),
        num_rejected=len(rejections),
        sources=_sources(clips, rejections)[:MAX_SOURCES],
        settings=_settings(summary["settings"]),
    )


def render(path: Path, template: str, **values: object) -> None:
    """Write a page from a template, whole or not at all."""
    environment = Environment(
        loader=PackageLoader("data_curation.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template).render(values)
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")


def histogram(values: Sequence[float]) -> list[Bar]:
    """At most eight bars, labelled where they begin, and the last where it ends.

    One bar per value when there are few different ones.
    """
    if not values:
        return []
    distinct = sorted(set(values))
    if len(distinct) <= 3:
        return _bars([(_number(value), values.count(value)) for value in distinct])
    found, edges = np.histogram(values, bins=min(_NUM_BINS, len(distinct)))
    labels = [""] * len(found)  # more than three would not fit
    labels[0], labels[-1] = _number(edges[0]), _number(edges[-1])
    labels[len(found) // 2] = _number(edges[len(found) // 2])
    return _bars(zip(labels, map(int, found), strict=True))


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _bars(counts: Iterable[tuple[str, int]]) -> list[Bar]:
    pairs = list(counts)
    highest = max((count for _, count in pairs), default=1)
    return [Bar(label, count, 100 * count / highest) for label, count in pairs]


def _histograms(clips: Sequence[Clip]) -> dict[str, list[Bar]]:
    """Of the clips' shape, and of every score that a stage gave."""
    charts = {
        "Length / s": histogram([clip.num_frames / clip.fps for clip in clips]),
        "Frames per second": histogram([clip.fps for clip in clips]),
        "Height / pixels": histogram([float(clip.height) for clip in clips]),
        "Width / pixels": histogram([float(clip.width) for clip in clips]),
    }
    for name in sorted({name for clip in clips for name in clip.scores}):
        values = [float(clip.scores[name]) for clip in clips if name in clip.scores]
        charts[name] = histogram([value for value in values if np.isfinite(value)])
    return charts


def _label_charts(clips: Sequence[Clip]) -> dict[str, list[Bar]]:
    """How often each label was given, and who wrote the captions."""
    charts = {}
    for field, title in _LABELS.items():
        found = Counter(label for clip in clips for label in _labels(clip, field))
        charts[title] = _bars(sorted(found.items(), key=lambda item: (-item[1], item[0])))
    sources = Counter(clip.caption_source for clip in clips)
    return {**charts, "Captions by": _bars(sorted(sources.items()))}


def _labels(clip: Clip, field: str) -> list[str]:
    value = clip.extra.get(field, [])
    return [value] if isinstance(value, str) else [str(each) for each in value]


def _stage_rows(
    stages: Mapping[str, Sequence[int]], rejections: Sequence[Rejection]
) -> list[StageRow]:
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for item in rejections:
        reasons[item.stage][item.reason] += 1
    most = max((max(counts) for counts in stages.values()), default=1)
    return [
        StageRow(name, entered, passed, max(1, most), _words(reasons[name]))
        for name, (entered, passed) in stages.items()
    ]


def _words(reasons: Counter[str]) -> str:
    """``3 too_short, 1 motion``."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {name}" for name, count in ordered)


def _reasons(rejections: Sequence[Rejection], store: ClipStore) -> list[Reason]:
    """Rejections by reason, the rarest first: what is frequent is seen anyhow."""
    groups: defaultdict[tuple[str, str], list[Rejection]] = defaultdict(list)
    for item in rejections:
        groups[item.reason, item.stage].append(item)
    return [
        Reason(name, stage, len(items), [_rejected(i, store) for i in items[:MAX_OF_A_REASON]])
        for (name, stage), items in sorted(groups.items(), key=lambda g: (len(g[1]), g[0]))
    ]


def _sources(clips: Sequence[Clip], rejections: Sequence[Rejection]) -> list[SourceLine]:
    """What became of each source, in order of name."""
    spans: defaultdict[str, list[tuple[tuple[float, float], bool, str]]] = defaultdict(list)
    for clip in clips:
        spans[clip.name].append((clip.span_s, True, f"kept, {clip.clip_id}"))
    for item in rejections:
        spans[item.name].append((item.span_s, False, f"{item.reason}: {item.detail}"))
    return [_source_line(name, sorted(found)) for name, found in sorted(spans.items())]


def _source_line(name: str, found: Sequence[tuple[tuple[float, float], bool, str]]) -> SourceLine:
    end_s = max(span_s[1] for span_s, _, _ in found) or 1.0
    pieces = []
    for (first_s, last_s), kept, title in found:
        whole = last_s <= 0  # a source that was rejected before it was cut
        left, width = (0.0, 100.0) if whole else (first_s, last_s - first_s)
        scale = 1.0 if whole else 100 / end_s
        span = "" if whole else f"{_span((first_s, last_s))} "
        pieces.append(Piece(left * scale, width * scale, kept, f"{span}{title}"))
    num_kept = sum(piece.kept for piece in pieces)
    return SourceLine(name, pieces, f"{num_kept} kept, {len(pieces) - num_kept} rejected")


def _settings(settings: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """By stage; what belongs to the run as a whole comes first."""
    stages = {name: dict(value) for name, value in settings.items() if isinstance(value, Mapping)}
    run = {name: value for name, value in settings.items() if name not in stages}
    return {"run": run, **stages}


def _kept(clip: Clip, store: ClipStore) -> Picture:
    tags = [f"{clip.width}x{clip.height}", f"{clip.fps:.4g} fps"]
    tags += [label for field in _LABELS for label in _labels(clip, field) if label != "unknown"]
    text = f"{clip.caption} ({clip.caption_source})"
    url = _data_url(store.thumbnail(clip.clip_id))
    return Picture(url, clip.name, _span(clip.span_s), text, tuple(tags), clip.clip_id)


def _rejected(item: Rejection, store: ClipStore) -> Picture:
    url = _data_url(store.thumbnail(item.clip_id))
    return Picture(url, item.name, _span(item.span_s), item.detail)


def _span(span_s: tuple[float, float]) -> str:
    return f"{span_s[0]:.2f} s to {span_s[1]:.2f} s" if span_s[1] > 0 else ""


def _data_url(jpeg: bytes | None) -> str | None:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else None
