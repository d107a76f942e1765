"""``nemo-cosmos status``."""

from __future__ import annotations

import json
import os

import pytest

from nemo_cosmos.cli import status
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.guardrails import AuditLog, Verdict
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE


@pytest.fixture(autouse=True)
def audit_log(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("site")
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(folder / "site.txt"))
    monkeypatch.setenv(AUDIT_VARIABLE, str(folder / "audit.jsonl"))
    return folder / "audit.jsonl"


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
    rows = {
        row["run"].rsplit("/", 1)[1]: row for row in json.loads(capsys.readouterr().out)["runs"]
    }
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


def verdicts(*categories):
    return {"verdicts": [Verdict(c == "safe", "g", c, "").to_dict() for c in categories]}


def test_refusals_are_counted_by_category(tmp_path, capsys, audit_log):
    for categories in (["safe"], ["violence", "safe"], ["violence", "sexual"]):
        AuditLog(audit_log).append("prompt", verdicts(*categories))
    status.command(tmp_path)
    assert "Refused by guards: violence 2, sexual 1." in capsys.readouterr().out
    with audit_log.open("a") as handle:
        handle.write("no record\n")
    status.command(tmp_path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == {"runs": [], "violations": {"violence": 2, "sexual": 1, "unreadable": 1}}


def test_before_the_first_training_there_are_no_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status.command()
    assert "no runs" in capsys.readouterr().out
