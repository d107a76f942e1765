"""The audit log shows every removal and change, and survives processes that die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.guardrails import AuditLog, verify_log
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE, default_log_path, read_log


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "deep" / "audit.jsonl")
    for number in range(4):
        log.append("prompt", {"number_given": number, "text": "ünï\n"})
    return log


def edit_lines(log: AuditLog, change) -> None:
    lines = log.path.read_text().splitlines()
    log.path.write_text("".join(f"{line}\n" for line in change(lines)))


def test_a_whole_log_is_ok_and_says_who_when_what(log):
    assert verify_log(log.path).ok
    assert verify_log(log.path).num_records == 4
    record = read_log(log.path)[2]
    assert record["number"] == 3
    assert record["user"] and record["time"].startswith("20")
    assert record["event"] == "prompt" and record["number_given"] == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: lines[:2] + lines[3:],
        lambda lines: lines[:-1],
        lambda lines: lines[:-2],
        lambda lines: [],
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [line.replace('"number_given": 1', '"number_given": 9') for line in lines],
        lambda lines: [*lines[:2], "not json", *lines[3:]],
        lambda lines: [*lines[:2], "[]", *lines[3:]],
    ],
)
def test_removal_and_change_show_also_after_more_records(log, change):
    edit_lines(log, change)
    assert not verify_log(log.path).ok
    log.append("prompt", {})
    assert not verify_log(log.path).ok


def test_a_rewritten_record_with_a_fresh_hash_shows_in_the_next(log):
    def change(lines):
        record = json.loads(lines[1])
        record["number_given"] = 9
        del record["hash"]
        forged = AuditLog(log.path.parent / "forged.jsonl")
        record["hash"] = forged.append("prompt", {})
        return [lines[0], json.dumps(record), *lines[2:]]

    edit_lines(log, change)
    assert "line 2" in str(verify_log(log.path).problem)


def test_a_removed_log_or_head_shows(log):
    head = log.path.with_name("audit.jsonl.head")
    kept = head.read_text()
    head.unlink()
    assert "head" in str(verify_log(log.path).problem)
    head.write_text(kept)
    log.path.unlink()
    assert "log is missing" in str(verify_log(log.path).problem)
    head.unlink()
    with pytest.raises(MissingFileError, match="no audit log"):
        verify_log(log.path)


def test_a_process_that_died_between_line_and_head_leaves_a_whole_log(log):
    head = log.path.with_name("audit.jsonl.head")
    before = head.read_text()
    log.append("prompt", {})
    head.write_text(before)
    assert verify_log(log.path).ok
    log.append("prompt", {})
    assert verify_log(log.path).ok
    assert verify_log(log.path).num_records == 6


def test_a_torn_last_line_is_dropped_by_the_next_record(log):
    with log.path.open("ab") as handle:
        handle.write(b'{"number": 5, "torn')
    assert not verify_log(log.path).ok
    log.append("prompt", {})
    assert verify_log(log.path).num_records == 5
    assert verify_log(log.path).ok


def test_a_full_disk_leaves_the_log_as_it_was(log, monkeypatch):
    before = log.path.read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:10]))
    with pytest.raises(OSError, match="in part"):
        log.append("prompt", {})
    monkeypatch.undo()
    assert log.path.read_bytes() == before
    assert verify_log(log.path).ok


def test_writers_at_the_same_time_keep_one_chain(log):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: AuditLog(log.path).append("prompt", {"n": n}), range(20)))
    assert verify_log(log.path).num_records == 24
    assert verify_log(log.path).ok


def test_long_records_are_found_again(log):
    log.append("prompt", {"text": "x" * 200_000})
    log.append("prompt", {})
    assert verify_log(log.path).ok


def test_the_variable_names_the_default_log(monkeypatch, tmp_path):
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "a.jsonl"))
    assert default_log_path() == tmp_path / "a.jsonl"
    assert AuditLog().path == tmp_path / "a.jsonl"
    assert read_log(tmp_path / "a.jsonl") == []


def test_processes_at_the_same_time_keep_one_chain(log):
    code = (
        "import sys; from nemo_cosmos.guardrails.audit import AuditLog\n"
        "for n in range(10): AuditLog(sys.argv[1]).append('prompt', {'n': n})"
    )
    command = [sys.executable, "-c", code, str(log.path)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert verify_log(log.path).num_records == 34
    assert verify_log(log.path).ok


@pytest.mark.parametrize("content", ["", "no json", "[]", "{}", '{"number": "x", "hash": 3}'])
def test_a_damaged_head_shows_and_stops_the_log(log, content):
    log.path.with_name("audit.jsonl.head").write_text(content)
    assert not verify_log(log.path).ok
    with pytest.raises((ValueError, TypeError, KeyError)):
        log.append("prompt", {})
