"""``nemo-cosmos audit verify``: what it says, and its exit code."""

from __future__ import annotations

import pytest

from nemo_cosmos.cli.main import Exit
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


@pytest.fixture
def verify(run_cli):
    return lambda *words: run_cli("audit", "verify", *words)


def test_a_whole_log(log, verify):
    ran = verify()
    assert ran.code == Exit.DONE and "is whole: 3 records" in ran.out
    summary = verify(log.path, "--json").json
    assert (summary["ok"], summary["num_records"], summary["problem"]) == (True, 3, None)
    assert summary["last_hash"] in log.path.read_text().splitlines()[-1]


def test_a_changed_record(log, verify):
    log.path.write_text(log.path.read_text().replace('"n": 1', '"n": 7'))
    ran = verify("--json")
    assert ran.code == Exit.FAILED
    assert (ran.json["ok"], ran.json["num_records"]) == (False, 1)
    assert "line 2" in ran.json["problem"]


def test_a_noted_hash_shows_that_log_and_head_were_cut_together(log, verify):
    head = log.path.with_name("audit.jsonl.head")
    kept = (log.path.read_bytes(), head.read_bytes())
    noted = log.append("prompt", {"n": 3})
    assert verify("--contains", noted).code == Exit.DONE
    log.path.write_bytes(kept[0])
    head.write_bytes(kept[1])
    assert verify().code == Exit.DONE
    ran = verify("--contains", noted)
    assert ran.code == Exit.FAILED and f"the record {noted} was removed" in ran.out


def test_no_log_is_an_error(tmp_path, verify):
    ran = verify(tmp_path / "none.jsonl")
    assert ran.code == Exit.WRONG_USE and "no audit log" in ran.err
