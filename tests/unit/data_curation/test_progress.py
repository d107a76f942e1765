"""The live counts: what is done, how fast, and how much is left."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from data_curation import progress
from data_curation.progress import CurateProgress


@pytest.fixture
def screen(monkeypatch):
    """What is drawn, on a terminal in memory."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    return written


def test_a_step_over_all_clips_shows_its_rate_and_the_time_left(screen, monkeypatch):
    seconds = iter([0.0, 0.0, *(2.0 * number for number in range(1, 10))])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with (
        CurateProgress(1, ["annotate"], show=True) as shown,
        shown.counting("annotate", 4) as advance,
    ):
        advance()
        advance()
    drawn = screen.getvalue()
    assert "1/4" in drawn and "2/4" in drawn and "4/4" in drawn
    assert "0.5 clips/s" in drawn
