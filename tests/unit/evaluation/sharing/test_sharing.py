"""Several processes share videos: each is scored once, and one that dies or fails is reported."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.evaluation import Case, choose_metrics
from nemo_cosmos.evaluation.files.folders import Comparison, compare_folders
from nemo_cosmos.evaluation.run import Part, Source, score_parts
from nemo_cosmos.evaluation.sharing import Crew, ShareDone, shared
from nemo_cosmos.guardrails import Verdict
from nemo_cosmos.guardrails.base import RefusedError
from nemo_cosmos.storage.one_run import claimed

NAMES = ("a", "b", "c", "d")
NO = Verdict(False, "faces", "identity", "someone is seen")


def part(read: list[str]) -> Part:
    """Four videos, the second of which is damaged; those that are read are listed."""

    def source(name: str) -> Source:
        def make() -> Case:
            read.append(name)
            if name == "b":
                raise VideoError("it is damaged")
            value = ord(name)
            return Case(name, frames(value), frames(value + 5))

        return Source(name, make)

    return Part({name: source(name) for name in NAMES}, choose_metrics(["psnr"]))


def frames(value: int) -> np.ndarray:
    return np.full((3, 16, 16, 3), value, np.uint8)


HELPERS = """
import os, signal
from nemo_cosmos.errors import ConfigError

def dies(work, crew):
    assert crew.take("0-2")
    os.kill(os.getpid(), signal.SIGKILL)

def fails(work, crew):
    raise ConfigError("there is no such metric")
"""


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Functions that a new process can import."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "helpers_of_sharing.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    sys.modules.pop("helpers_of_sharing", None)
    return importlib.import_module("helpers_of_sharing")


def test_what_one_process_took_no_other_takes(tmp_path):
    first, second = Crew(tmp_path, 0, 2), Crew(tmp_path, 1, 2)
    assert second.take("0-0") and not first.take("0-0")
    assert not first.is_finished("0-0")
    second.finish("0-0", {"x": RefusedError("a guard said no", [NO])})
    assert first.wait("0-0", lambda: None)
    refused = first.refused("0-0")["x"]
    assert str(refused) == "a guard said no" and type(refused).__name__ == "GuardrailError"
    assert refused.violations == (("faces", "identity"),)
    second.fail(ConfigError("no such metric"))
    with pytest.raises(ConfigError, match="no such metric"):
        first.take("0-1")


def test_the_first_gathers_what_the_others_scored(tmp_path):
    books, work = tmp_path / "books", tmp_path / "scores"
    books.mkdir()
    read: list[str] = []
    with pytest.raises(ShareDone):
        score_parts([part(read)], work=work, crew=Crew(books, 1, 2))
    assert read == ["a", "b", "c", "d"]
    seen: list[tuple[int, int]] = []
    (found,) = score_parts(
        [part(read)], work=work, crew=Crew(books, 0, 2), on_case=lambda *n: seen.append(n)
    )
    assert read == ["a", "b", "c", "d"], "nothing is read again, nor what was refused"
    (alone,) = score_parts([part([])])
    assert found.results == alone.results and seen[-1] == (4, 4)
    assert {name: str(error) for name, error in found.refused.items()} == {"b": "it is damaged"}
    with pytest.raises(ShareDone):
        score_parts([part(read)], work=work, crew=Crew(tmp_path / "books", 1, 2))


def test_one_that_dies_is_reported_and_the_others_finish(tmp_path, helpers, capfd):
    read: list[str] = []
    with shared(helpers.dies, tmp_path, workers=2) as (work, crew):
        assert crew is not None
        while not (crew.folder / "0-2.taken").exists() and not crew.is_alone():
            time.sleep(0.05)
        (found,) = score_parts([part(read)], work=work, crew=crew)
    assert list(found.results) == ["a", "c", "d"] and sorted(read) == ["a", "b", "c", "d"]
    assert "Process 2 of 2 was killed by SIGKILL" in capfd.readouterr().err
    assert not list((tmp_path / ".work" / "shares").iterdir()), "the books are closed"


def test_an_error_of_one_ends_all(helpers):
    with (
        pytest.raises(ConfigError, match="there is no such metric"),
        shared(helpers.fails, None, workers=2) as (work, crew),
    ):
        assert crew is not None and work is not None
        crew.wait("0-0", lambda: None)


def test_one_run_at_a_time_works_in_a_folder(tmp_path):
    asked = Comparison(tmp_path / "generated", tmp_path / "truth")
    with claimed(tmp_path / "out"), pytest.raises(ConfigError, match="Another run is writing"):
        compare_folders(asked, out=tmp_path / "out")


def test_what_cannot_travel_is_an_error(tmp_path):
    with (
        pytest.raises(ConfigError, match="cannot be handed to another process"),
        shared(lambda work, crew: None, tmp_path, workers=2),
    ):
        pass
