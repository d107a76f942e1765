"""``nemo-cosmos status``."""

from __future__ import annotations

import json
import os

import pytest

from nemo_cosmos.cli import status
from nemo_cosmos.errors import MissingFileError


@pytest.fixture
def outputs(tmp_path):
    done, stopped = tmp_path / "done", tmp_path / "group" / "stopped"
    (done / "export").mkdir(parents=True)
    (done / "metrics.jsonl").write_text('{"step": 9, "loss": 0.25}\n{"step": 9, "val_loss": 0.5}\n')
    (done / "finished.json").write_text('{"step": 9, "fingerprint": "f", "export": "export"}')
    (stopped / "checkpoints" / "step=000004").mkdir(parents=True)
    (stopped / "metrics.jsonl").write_text('{"step": 5, "loss": 1.5}\n')
    os.utime(stopped / "metrics.jsonl", (0, 0))
    return tmp_path


def test_states_and_numbers(outputs, capsys):
    status.command(outputs, as_json=True)
    rows = {row["run"].rsplit("/", 1)[1]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["done"]["state"] == "finished"
    assert rows["done"]["loss"] == 0.25 and rows["done"]["val_loss"] == 0.5
    assert rows["stopped"]["state"] == "stopped"
    assert rows["stopped"]["step"] == 5
    assert rows["stopped"]["checkpoint"].endswith("step=000004")
    assert rows["stopped"]["export"] is None


def test_a_fresh_run_is_running(outputs, capsys):
    os.utime(outputs / "group" / "stopped" / "metrics.jsonl")
    assert [row["state"] for row in status.list_runs(outputs / "group")] == ["running"]


def test_the_table(outputs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status.command(outputs)
    shown = capsys.readouterr().out
    assert "finished" in shown and "step=000004" in shown and "0.2500" in shown


def test_no_runs_and_no_folder(tmp_path, capsys):
    status.command(tmp_path)
    assert "no runs" in capsys.readouterr().out
    with pytest.raises(MissingFileError, match="nowhere"):
        status.command(tmp_path / "nowhere")
