"""The page that a person opens after the quickstart: videos first, then figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from nemo_cosmos import __version__
from nemo_cosmos.quickstart.runner import Record
from nemo_cosmos.storage import atomic_path

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Exhibit:
    """One video, with a strip of its frames for print.

    Attributes:
        caption: a description of the content.
        video_uri: mp4 as a data URI.
        strip_uri: PNG as a data URI.
        width_px: width of the video.
    """

    caption: str
    video_uri: str
    strip_uri: str
    width_px: int


@dataclass(frozen=True)
class Section:
    """A heading, a sentence that says what to look for, and the exhibits.

    Attributes:
        title: heading.
        text: one plain sentence or two.
        exhibits: videos.
        curves: inline SVG pictures.
        table: rows of cells; the first row is the header.
    """

    title: str
    text: str
    exhibits: Sequence[Exhibit] = ()
    curves: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        headline: (figure, what it is) pairs at the top.
        sections: the page's sections in order.
        records: the steps' records, for the timing table.
        commands: step name -> the command lines that do the same by hand.
        machine: one line that names the processor and its threads.
    """

    headline: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    records: Sequence[Record]
    commands: dict[str, list[str]] = field(default_factory=dict)
    machine: str = ""


def write_report(report: Report, path: Path) -> None:
    """Write the page, whole or not at all."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nemo_cosmos.quickstart", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.tests["figure"] = _is_figure
    total_s = sum(record.duration_s for record in report.records)
    page = environment.get_template(TEMPLATE).render(
        report=report, version=__version__, total_s=total_s
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _is_figure(cell: str) -> bool:
    """Whether a cell holds a number, which is set to the right, under its like."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
