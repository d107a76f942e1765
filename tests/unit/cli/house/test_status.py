"""``nemo-cosmos status``."""

from __future__ import annotations

import os

import pytest

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.guardrails import AuditLog, Verdict
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE


@pytest.fixture(autouse=True)
def audit_log(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("site")
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(folder / "site.txt"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
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


def test_states_and_numbers(outputs, run_cli):
    runs = run_cli("status", outputs, "--json").json["runs"]
    rows = {row["run"].rsplit("/", 1)[1]: row for row in runs}
    assert rows["done"]["state"] == "finished"
    assert rows["done"]["loss"] == 0.25 and rows["done"]["val_loss"] == 0.5
    assert rows["stopped"]["state"] == "stopped"
    assert rows["stopped"]["step"] == 5
    assert rows["stopped"]["checkpoint"].endswith("step=000004")
    assert rows["stopped"]["export"] is None


def test_a_fresh_run_is_running(outputs, run_cli):
    os.utime(outputs / "group" / "stopped" / "metrics.jsonl")
    runs = run_cli("status", outputs / "group", "--json").json["runs"]
    assert [row["state"] for row in runs] == ["running"]


def test_the_output_of_a_curation_is_no_run(outputs, run_cli):
    shards = outputs / "shards"
    shards.mkdir()
    (shards / "metrics.jsonl").write_text('{"event": "source", "clips": 1}\n{"event": "run"}\n')
    ran = run_cli("status", outputs, "--json")
    assert ran.code == 0, ran.err
    assert sorted(row["run"].rsplit("/", 1)[1] for row in ran.json["runs"]) == ["done", "stopped"]


def test_the_table(outputs, run_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = run_cli("status", outputs).out
    assert "finished" in shown and "step=000004" in shown and "0.2500" in shown


def test_no_runs_and_no_folder(tmp_path, run_cli):
    assert "no runs" in run_cli("status", tmp_path).out
    ran = run_cli("status", tmp_path / "nowhere")
    assert ran.code == Exit.WRONG_USE and "nowhere" in ran.err


def verdicts(*categories):
    return {"verdicts": [Verdict(c == "safe", "g", c, "").to_dict() for c in categories]}


def test_refusals_are_counted_by_category(tmp_path, run_cli, audit_log):
    for categories in (["safe"], ["violence", "safe"], ["violence", "sexual"]):
        AuditLog(audit_log).append("prompt", verdicts(*categories))
    assert "Refused by guards: violence 2, sexual 1." in run_cli("status", tmp_path).out
    with audit_log.open("a") as handle:
        handle.write("no record\n")
    assert run_cli("status", tmp_path, "--json").json == {
        "jobs": [],
        "runs": [],
        "violations": {"violence": 2, "sexual": 1, "unreadable": 1},
    }


def test_before_the_first_training_there_are_no_runs(tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no runs" in run_cli("status").out


def test_the_machine_is_shown_with_its_kernels(run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("NEMO_COSMOS_CACHE", str(tmp_path))
    monkeypatch.setenv("NEMO_COSMOS_KERNELS", "measured")
    first = run_cli("status", "--machine", "--json").json
    assert first["libraries"]["torch"] and first["processor"] and first["threads"] >= 1
    problems = first["kernels"]["problems"]
    assert "product" in problems and all(row["torch_ms"] > 0 for row in problems.values())
    assert run_cli("status", "--machine", "--json").json == first
    assert "kernels: measured" in run_cli("status", "--machine").out


def test_a_setting_decides_the_kernels(run_cli, monkeypatch):
    monkeypatch.setenv("NEMO_COSMOS_KERNELS", "onednn")
    assert "kernels: onednn" in run_cli("status", "--machine").out
    monkeypatch.setenv("NEMO_COSMOS_KERNELS", "fast")
    assert run_cli("status", "--machine").code == 2
