"""The page that a person looks at after a run: counts, histograms, thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from data_curation.stages.base import Clip, Rejection
from data_curation.store import ClipStore
from nemo_cosmos.storage import atomic_path

#: Thumbnails of each kind that the page shows; it says how many there are in all.
MAX_THUMBNAILS = 120
_NUM_BINS = 8


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: its label, its count, its height in percent of the highest."""

    label: str
    count: int
    percent: float


@dataclass(frozen=True)
class Picture:
    """One thumbnail: a data URL (or None), a title and a line below."""

    url: str | None
    title: str
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
        summary: what ``summary.json`` holds.
        clips: the samples that were written.
        rejections: everything that was not.
        store: holds the thumbnails.
    """
    environment = Environment(
        loader=PackageLoader("data_curation"), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("report.html.j2").render(
        summary=summary,
        histograms={
            "Length / s": histogram([clip.num_frames / clip.fps for clip in clips]),
            "Frames per second": histogram([clip.fps for clip in clips]),
            "Height / pixels": histogram([float(clip.height) for clip in clips]),
            "Motion (global mean) x 1000": histogram(
                [
                    1000 * clip.scores["motion_global_mean"]
                    for clip in clips
                    if "motion_global_mean" in clip.scores
                ]
            ),
        },
        kept=[_kept(clip, store) for clip in clips[:MAX_THUMBNAILS]],
        rejected=[_rejected(rejection, store) for rejection in rejections[:MAX_THUMBNAILS]],
        num_rejected=len(rejections),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")


def histogram(values: Sequence[float]) -> list[Bar]:
    """At most eight bars; one bar per value when there are few different ones."""
    if not values:
        return []
    distinct = sorted(set(values))
    if len(distinct) <= 3:
        counts = [values.count(value) for value in distinct]
        labels = [f"{value:.4g}" for value in distinct]
    else:
        found, edges = np.histogram(values, bins=min(_NUM_BINS, len(distinct)))
        counts = [int(count) for count in found]
        labels = [f"{edge:.3g}" for edge in edges[:-1]]
    highest = max(counts)
    return [
        Bar(label, count, 100 * count / highest)
        for label, count in zip(labels, counts, strict=True)
    ]


def _kept(clip: Clip, store: ClipStore) -> Picture:
    title = f"{clip.name} {_span(clip.span_s)}"
    text = f"{clip.caption} ({clip.caption_source})"
    return Picture(_data_url(store.thumbnail(clip.clip_id)), title, text)


def _rejected(rejection: Rejection, store: ClipStore) -> Picture:
    title = f"{rejection.name} {_span(rejection.span_s)}"
    text = f"{rejection.stage}: {rejection.reason}. {rejection.detail}"
    return Picture(_data_url(store.thumbnail(rejection.clip_id)), title, text)


def _span(span_s: tuple[float, float]) -> str:
    return f"[{span_s[0]:.2f} s to {span_s[1]:.2f} s]" if span_s[1] > 0 else ""


def _data_url(jpeg: bytes | None) -> str | None:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else None
