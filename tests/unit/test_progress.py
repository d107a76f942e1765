"""Progress on standard error: a bar, lines in a log, or JSON."""

from __future__ import annotations

import io
import json
import sys

import pytest

from nemo_cosmos import progress
from nemo_cosmos.progress import BYTES, show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that goes by two seconds with every look at it."""
    times = iter(range(0, 1000, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))


def test_machines_read_json_lines_with_rate_and_time_left(capsys, clock):
    with show_progress("Rendering", "episodes", "json") as update:
        for done in (4, 5, 6):
            update(done, 8)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == {"progress": "Rendering", "done": 4, "total": 8, "unit": "episodes"}
    assert [line["done"] for line in lines] == [4, 5, 6]
    assert lines[2]["per_s"] > 0, "what was done before this run is no speed of it"
    assert lines[2]["left_s"] == pytest.approx(2 / lines[2]["per_s"], abs=0.1)


def test_a_log_gets_a_line_now_and_then_and_the_last_one(capsys):
    with show_progress("Importing", BYTES) as update:
        for done in range(11):
            update(done * 10**6, 10**7)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Importing: 10.0 of 10.0 MB, ")


def test_nothing_is_shown_where_nobody_reads(capsys):
    with show_progress("Rendering", "episodes", "nothing") as update:
        update(1, 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_note_is_made_when_it_is_shown(monkeypatch, terminal):
    """Reading a loss waits for a GPU: not at every step, but at the last one, too."""
    stream, made = Terminal() if terminal else io.StringIO(), []
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress.time, "monotonic", lambda: 5.0)

    def note(step: int) -> str:
        made.append(step)
        return f"loss {step / 10}"

    with show_progress("Training", "steps") as update:
        for step in range(1, 21):
            update(step, 20, lambda step=step: note(step))
    assert made == ([1, 20] if terminal else [20])
    assert terminal or "loss 2.0" in stream.getvalue()


@pytest.mark.parametrize("unit", ["steps", BYTES])
def test_a_terminal_gets_a_bar_which_ends_with_the_block(monkeypatch, unit):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(KeyError), show_progress("Sampling", unit) as update:
        update(1, 2)
        update(2, 2)
        raise KeyError
    assert "Sampling" in terminal.getvalue()
