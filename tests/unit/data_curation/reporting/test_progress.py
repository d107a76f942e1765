"""What a run shows while it goes: to people on a terminal, in a log, and to machines."""

from __future__ import annotations

import io
import json
import sys

import pytest

from data_curation import OPTIONAL_STAGES, CurateSettings, SplitSettings, curate
from data_curation.clip import Clip, Rejection
from data_curation.journal import SourceResult
from data_curation.reporting.progress import clock_text
from data_curation.reporting.recorder import RunRecorder
from data_curation.reporting.tally import Tally

SETTINGS = CurateSettings(split=SplitSettings(min_clip_s=1), skip=OPTIONAL_STAGES)


def result(name: str = "a.mp4", reused: bool = False, **stage_s: float) -> SourceResult:
    """A source of ten seconds that became four clips, of which one was too dark."""
    return SourceResult(
        name=name,
        rejections=[Rejection(name, "light", "too_dark", "x")],
        counts={"split": (1, 4), "light": (4, 3)},
        stage_s={} if reused else {"split": 1.0, "light": 2.0, **stage_s},
        duration_s=10.0,
        reused=reused,
    )


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tally(clock):
    return Tally(12, ["split", "light", "compare"], clock)


def test_counts_reasons_and_rates(tally, clock):
    tally.source_done(result())
    clock.now_s += 5
    light = tally.to_json()["stages"]["light"]
    assert (light["done"], light["passed"]) == (4, 3)
    assert light["rejected"] == {"too_dark": 1}
    assert light["clips_per_s"] == 2.0  # four clips in two seconds of a worker
    assert tally.to_json()["video_s_per_s"] == 2.0
    assert tally.to_json()["stages"]["compare"]["clips_per_s"] is None


def test_time_left_is_from_what_this_run_has_worked_on(tally, clock):
    assert tally.left_s() is None
    tally.source_done(result("old.mp4", reused=True))
    assert tally.left_s() is None  # an earlier run's work says nothing about the speed
    clock.now_s += 3
    tally.source_done(result())
    assert tally.left_s() == pytest.approx(30)  # ten sources, three seconds each
    assert tally.left_s("split") == pytest.approx(10)
    assert tally.left_s("light") == pytest.approx(20)
    for _ in range(10):
        tally.source_done(result())
    assert tally.left_s() == 0


def test_more_workers_need_less_time(tally, clock):
    clock.now_s += 3
    tally.source_done(result())
    tally.source_done(result())
    assert tally.left_s() == pytest.approx(15)


def test_stages_that_see_all_clips_count_by_clip(tally):
    tally.source_done(result())
    assert tally.left_s("compare") is None
    tally.stages["compare"].expected = 8
    tally.clips_done("compare", 0, wall_s=0.1)
    assert tally.left_s("compare") is None  # nothing is done yet
    tally.clips_done("compare", 2, wall_s=1.0)
    assert tally.left_s("compare") == pytest.approx(3)
    tally.dataset_done({"compare": (8, 7)}, [Rejection("a", "compare", "duplicate", "x")])
    stage = tally.to_json()["stages"]["compare"]
    assert (stage["done"], stage["passed"], stage["rejected"]) == (8, 7, {"duplicate": 1})


def test_nothing_to_do_leaves_no_time():
    assert Tally(0, ["split"]).left_s() == 0


def test_times():
    assert [clock_text(s) for s in (None, 0, 59.6, 3723)] == ["-", "0:00:00", "0:01:00", "1:02:03"]


def test_machines_read_json_lines(raw, tmp_path, capsys):
    curate(raw, tmp_path / "out", SETTINGS, show="json")
    captured = capsys.readouterr()
    assert captured.out == ""
    last = json.loads(captured.err.splitlines()[-1])
    assert (last["sources"], last["sources_done"]) == (4, 4)
    assert last["stages"]["probe"]["rejected"] == {"not_a_video": 1}
    assert last["stages"]["deduplicate"]["done"] == 3
    assert (last["step"], last["step_done"]) == ("shards", 3)


def test_a_log_gets_plain_lines(raw, tmp_path, capsys):
    curate(raw, tmp_path / "out", SETTINGS, show="people")
    captured = capsys.readouterr()
    assert captured.out == "" and "\x1b" not in captured.err
    assert "4 of 4 sources, 2 rejected" in captured.err.splitlines()[-1]


def test_nothing_is_said_when_nobody_asked(raw, tmp_path, capsys):
    curate(raw, tmp_path / "out", SETTINGS)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_stages_reasons_rates_and_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    clips = [Clip(source=tmp_path, name="a")] * 6
    with RunRecorder(tmp_path, 2, ["split", "light", "compare"], "people") as progress:
        progress.source_done(result())
        progress.source_done(result("b.mp4"))
        with progress.step("compare", clips) as advance:
            advance()
        with progress.step("shard", clips, shown_as="shards") as advance:
            for _ in range(6):
                advance()
    drawn = sys.stderr.getvalue()
    for words in ("sources", "shards", "6/6", "2 too_dark", "clips/s", "left", "2.0"):
        assert words in drawn
