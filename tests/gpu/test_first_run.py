"""The checks of a first run on a GPU, on a CPU at nano size, and the program that runs them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from nemo_cosmos.platform import ensure_model_parallel, install_cpu_backend
from nemo_cosmos.testing.first_run import CHECKS
from nemo_cosmos.testing.first_run.kit import Skipped, Unexpected, expect

CPU = torch.device("cpu")
ON_GPU_ALONE = {"tests_on_the_gpu", "compilation"}


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location(
        "first_run_program", Path(__file__).with_name("first_run.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_process():
    install_cpu_backend()
    ensure_model_parallel()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_check_holds_on_the_gpu(check):
    if check.name == "tests_on_the_gpu":
        pytest.skip("it starts these very tests")
    assert check.look(torch.device("cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU backend keeps off CUDA")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_check_holds_on_the_cpu(check):
    if check.name in ON_GPU_ALONE:
        with pytest.raises(Skipped):
            check.look(CPU)
        return
    found = check.look(CPU)
    assert found
    json.dumps(found)


def test_there_are_fifteen_within_the_time(program):
    assert len({check.name for check in CHECKS}) == 15
    assert all(check.expected for check in CHECKS)
    assert sum(check.limit_s for check in CHECKS) <= program.BUDGET_S
    assert [check.name for check in CHECKS][:2] == [
        "versions_and_ceilings",
        "platform_and_process_groups",
    ]


def test_what_fails_is_a_line_and_the_next_check_runs(program, capsys, tmp_path, monkeypatch):
    def fails():
        expect(1 > 2, "one is not two")

    def skips():
        raise Skipped("no GPU")

    runs = [("good", 9, lambda: ("all", {"x": 1})), ("bad", 9, fails), ("none", 9, skips)]
    monkeypatch.setattr(program, "_checks", lambda options: runs)
    output = tmp_path / "lines.jsonl"
    assert program.main(["--output", str(output)]) == 1
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["outcome"] for line in lines] == ["passed", "failed", "skipped"]
    assert lines[1]["reason"] == "Unexpected: one is not two" and "fails" in lines[1]["trace"]
    assert lines[0]["found"] == {"x": 1} and lines[0]["expected"] == "all"
    printed = capsys.readouterr().out
    assert "1 passed, 1 failed, 1 skipped" in printed
    monkeypatch.setattr(program, "_checks", lambda options: [runs[0], runs[2]])
    assert program.main([]) == 0


def test_late_checks_are_left_out(program, capsys, monkeypatch):
    monkeypatch.setattr(program, "_checks", lambda options: [("slow", 9, lambda: ("", {}))])
    assert program.main(["--budget-s", "8"]) == 0
    assert "no time left" in capsys.readouterr().out


def test_without_a_gpu_the_program_says_so(program, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert program.main([]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[0])["check"] == "imports"


def test_expectations_that_do_not_hold_raise():
    expect(True, "")
    with pytest.raises(Unexpected, match="two"):
        expect([], "two")
