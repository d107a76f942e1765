"""Small videos of every kind that people have, each with the frames, seconds and picture it shows.

The table of :func:`all_rows` is what the tests read and what ``docs/curation.md`` shows. Each file
is written when it is needed, by FFmpeg's own encoders and muxers, and then spoilt where it says so.
A file of further rows has a list ``ROWS`` and is named in :data:`_PARTS`.
"""

from __future__ import annotations

import importlib

from nemo_cosmos.testing.odd_videos.row import OddVideo

_PARTS = ("containers", "codecs", "times", "streams", "damage", "picture", "shown")


def all_rows() -> list[OddVideo]:
    """Every row of the table, in order."""
    parts = [importlib.import_module(f"{__name__}.{part}") for part in _PARTS]
    return [row for part in parts for row in part.ROWS]


def as_markdown() -> str:
    """The table as the documentation shows it."""
    lines = ["| file | what is odd | frames | seconds | picture | not usable |", "|---" * 6 + "|"]
    for row in all_rows():
        lost = ", ".join(f"{seconds:g} s {reason}" for reason, seconds in row.lost_s.items())
        height, width = row.size
        lines.append(
            f"| `{row.name}` | {row.about} | {len(row.numbers)} | {row.seconds:g} "
            f"| {width}x{height} | {lost} |"
        )
    return "\n".join(lines) + "\n"
