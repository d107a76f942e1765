"""The ranks of one machine: their variables, their lines, their end."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nemo_cosmos.launch import ranks
from nemo_cosmos.launch.ranks import Place, Ranks, main

#: In the place of the interpreter: behaves as its words say.
RANK = """#!/bin/bash
shift 2
case $1 in
  where) echo "${RANK-alone}/${WORLD_SIZE-1} ${LOCAL_RANK-}/${LOCAL_WORLD_SIZE-}" \
    "${NODE_RANK-} ${MASTER_ADDR-}:${MASTER_PORT-}"; cat "$NEMO_COSMOS_SITE"; echo "$2" >&2 ;;
  fail) [ "$RANK" = 1 ] && { echo 76 > "$NEMO_COSMOS_EXIT_FILE"; exit 9; }
    trap 'echo asked; exit 130' TERM; while :; do sleep 0.05; done ;;
  save) trap 'echo saved; exit 130' TERM; echo ready; while :; do sleep 0.05; done ;;
  code) exit "$2" ;;
esac
"""


@pytest.fixture(autouse=True)
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "python"
    path.write_text(RANK)
    path.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(path))
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "NODE_RANK",
        "MASTER_ADDR",
    ):
        monkeypatch.delenv(name, raising=False)


def test_each_rank_knows_its_place_and_each_line_its_rank(capsys, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "5")  # as a pod of an indexed job has it
    words = ["--nodes=6", "--devices=2", "--meet=first:29500", "--site=logger=none", "--"]
    assert main([*words, "where", "--list"]) == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line for line in lines if "/12" in line] == [
        "10: 10/12 0/2 5 first:29500",
        "11: 11/12 1/2 5 first:29500",
    ]
    assert lines.count("10: logger=none") == lines.count("11: --list") == 1


def test_one_process_is_no_rank(capsys):
    assert main(["--", "where", "x"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "alone/1 /  :"


@pytest.mark.parametrize("code", [2, 3, 75])
def test_the_exit_code_is_that_of_the_command(code):
    assert main(["--devices=2", "--", "code", str(code)]) == code


def test_a_failure_ends_the_others_and_its_reason_counts(capsys):
    # Rank 1 wrote its reason down; what the others end with is that they were asked to.
    assert main(["--devices=2", "--", "fail"]) == 76
    assert "0: asked" in capsys.readouterr().out


def test_a_signal_is_passed_on_and_waited_for(capsys):
    def ask_when_ready() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask_when_ready).start()
    assert main(["--devices=2", "--", "save"]) == 130
    assert capsys.readouterr().out.count("saved") == 2


def test_what_does_not_end_is_killed_in_the_end(monkeypatch):
    monkeypatch.setattr(ranks, "END_S", 0.1)
    with Ranks(["fail"], Place(devices=2)) as running:
        list(running.lines())
        assert running.code == 76
    assert Place().variables(0) == {}
