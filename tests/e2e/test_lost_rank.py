"""Ranks that are lost, hang or are slow: the run goes on with those that are there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nemo_cosmos.exits import EXIT_FILE_VARIABLE

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("elastic_training.py")
REPOSITORY = Path(__file__).parents[2]
MAX_STEPS = 12


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start_node(folder: Path, name: str, port: int, kind: str, is_host: bool) -> subprocess.Popen:
    """One of at most two machines of a run: torchrun with one rank."""
    command = [
        *(sys.executable, "-W", "ignore", "-m", "torch.distributed.run"),
        *("--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "run"),
        *("--rdzv-conf", f"is_host={int(is_host)},last_call_timeout=10,join_timeout=200"),
        *("--local-addr", "127.0.0.1", str(PROGRAM), str(folder), kind),
    ]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, env=environment(), stdout=log, stderr=log)


def kill_node(process: subprocess.Popen) -> None:
    """Kill -9 of the launcher and its ranks, which are in sessions of their own."""
    everything = [
        psutil.Process(process.pid),
        *psutil.Process(process.pid).children(recursive=True),
    ]
    for one in everything:
        one.kill()
    psutil.wait_procs(everything, timeout=30)
    process.wait()


def record(folder: Path) -> list[dict[str, float]]:
    path = folder / "record.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train_alone(folder: Path) -> dict[int, float]:
    """The losses of a run that loses nothing."""
    folder.mkdir()
    words = [sys.executable, "-W", "ignore", str(PROGRAM), str(folder), "steady"]
    subprocess.run(words, env=environment(), check=True, capture_output=True)
    return {line["step"]: line["loss"] for line in record(folder)}


def test_a_run_that_loses_a_machine_goes_on_with_the_other(tmp_path):
    folder, port = tmp_path / "run", free_port()
    folder.mkdir()
    first = start_node(folder, "first", port, "steady", is_host=True)
    second = start_node(folder, "second", port, "steady", is_host=False)
    try:
        until_s = time.monotonic() + 300
        while not any(line["ranks"] == 2 and line["step"] >= 5 for line in record(folder)):
            assert first.poll() is None, (folder / "first.log").read_text()[-3000:]
            assert time.monotonic() < until_s, (folder / "first.log").read_text()[-3000:]
            time.sleep(0.05)
        kill_node(second)
        assert first.wait(timeout=300) == 0, (folder / "first.log").read_text()[-3000:]
    finally:
        for process in (first, second):
            if process.poll() is None:
                kill_node(process)
    lines = record(folder)
    assert {line["ranks"] for line in lines if line["step"] <= 4} == {2}
    assert lines[-1]["ranks"] == 1 and lines[-1]["step"] == MAX_STEPS
    assert (folder / "toy" / "finished.json").is_file()
    losses = {line["step"]: line["loss"] for line in lines}
    alone = train_alone(tmp_path / "alone")
    assert losses.keys() == alone.keys() == set(range(1, MAX_STEPS + 1))
    for step, loss in losses.items():
        assert loss == pytest.approx(alone[step], rel=1e-4), step


@pytest.mark.parametrize("kind", ["hang", "slow"])
def test_a_rank_that_hangs_or_is_slow_is_named(tmp_path, kind):
    """After a hang, torchrun starts both ranks again, and they go on from the last save."""
    command = [
        *(sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "2", "--max-restarts", "3", str(PROGRAM), str(tmp_path), kind),
    ]
    variables = environment() | {EXIT_FILE_VARIABLE: str(tmp_path / "exit")}
    ended = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=500, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert {line["step"] for line in record(tmp_path)} == set(range(1, MAX_STEPS + 1))
    assert (tmp_path / "toy" / "finished.json").is_file()
    if kind == "slow":
        assert "Rank 1 on '" in ended.stderr and "is slow" in ended.stderr
        curves = (tmp_path / "toy" / "metrics.jsonl").read_text().splitlines()
        assert json.loads(curves[7])["slowest_rank"] == 1
        assert not (tmp_path / "toy" / "stacks").exists()
        return
    assert (tmp_path / "exit").read_text() == "76\n"
    for rank in (0, 1):
        assert f"Rank {rank} made no progress" in ended.stderr
        [stacks] = (tmp_path / "toy" / "stacks").glob(f"*-rank{rank:05d}.txt")
        assert "Thread" in stacks.read_text() and "in step 3" in stacks.read_text()
    [last] = (tmp_path / "toy" / "stacks").glob("*-rank00001.txt")
    assert "forward_step" in last.read_text(), "where it hangs"
