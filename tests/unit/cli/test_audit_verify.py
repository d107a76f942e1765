"""``nemo-cosmos audit verify``: what it says, and its exit code."""

from __future__ import annotations

import json

import pytest

from nemo_cosmos.cli import main as cli
from nemo_cosmos.guardrails import AuditLog
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    log = AuditLog()
    for number in range(3):
        log.append("prompt", {"n": number})
    return log


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["audit", "verify", *map(str, arguments)])
    return int(stop.value.code or 0)


def test_a_whole_log(log, capsys):
    assert run() == 0
    assert "is whole: 3 records" in capsys.readouterr().out
    assert run(log.path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["num_records"], told["problem"]) == (True, 3, None)
    assert told["last_hash"] in log.path.read_text().splitlines()[-1]


def test_a_changed_record(log, capsys):
    log.path.write_text(log.path.read_text().replace('"n": 1', '"n": 7'))
    assert run("--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["num_records"]) == (False, 1)
    assert "line 2" in told["problem"]


def test_a_noted_hash_shows_that_log_and_head_were_cut_together(log, capsys):
    head = log.path.with_name("audit.jsonl.head")
    kept = (log.path.read_bytes(), head.read_bytes())
    noted = log.append("prompt", {"n": 3})
    assert run("--contains", noted) == 0
    log.path.write_bytes(kept[0])
    head.write_bytes(kept[1])
    assert run() == 0
    assert run("--contains", noted) == 1
    assert f"the record {noted} was removed" in capsys.readouterr().out


def test_no_log_is_an_error(tmp_path, capsys):
    assert run(tmp_path / "none.jsonl") == cli.EXIT_ERROR
    assert "no audit log" in capsys.readouterr().err
