"""Runs that survive: workers that die, files that kill, memory that runs out, a killed run."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_curation import curate
from data_curation.executors import ProcessExecutor, build_executor
from nemo_cosmos.errors import ConfigError, NemoCosmosError, StorageFullError
from nemo_cosmos.storage.one_run import claimed

sys.path.append(str(Path(__file__).parent))  # spawned workers import what they work on by name
from curation_workers import POISONED, SETTINGS, Squares, Unable, tree


def test_dead_workers_are_replaced_and_poison_is_given_up(tmp_path):
    outcomes = list(ProcessExecutor(2).run(Squares(tmp_path), [1, 5, 13, 2]))
    killed = (13, "square: its worker was killed by SIGKILL, 3 times")
    assert sorted(outcomes) == [(1, "done"), (4, "done"), killed, (25, "done")]
    tries = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    assert tries == {"1": 1, "2": 1, "5": 3, "13": 3}


def test_a_worker_that_takes_too_much_memory_is_killed(tmp_path):
    outcomes = list(ProcessExecutor(1, max_memory_gb=0.5).run(Squares(tmp_path), [20, 3]))
    assert outcomes[0] == (9, "done")
    assert outcomes[1] == (20, "square: its worker took more than 0.5 GiB of memory, 3 times")


def test_a_full_disk_in_a_worker_ends_the_run(tmp_path):
    with pytest.raises(StorageFullError, match="No space left"):
        list(ProcessExecutor(1).run(Squares(tmp_path), [30]))


def test_workers_that_cannot_start_are_no_fault_of_the_sources(tmp_path):
    with pytest.raises(NemoCosmosError, match="before it took any source"):
        list(ProcessExecutor(1).run(Unable(tmp_path), [1]))


def test_executors_by_name():
    assert isinstance(build_executor("processes", 3), ProcessExecutor)
    with pytest.raises(ConfigError, match="'inline'"):
        build_executor("inlin")
    with pytest.raises(ConfigError, match="1 or more"):
        build_executor("processes", 0)


def test_two_runs_do_not_write_into_one_folder(raw, tmp_path):
    out = tmp_path / "out"
    with claimed(out), pytest.raises(ConfigError, match="Another run"):
        curate(raw, out, SETTINGS)


def test_a_file_that_kills_its_worker_is_a_dead_letter_and_the_rest_is_made(raw, tmp_path):
    settings = POISONED
    summary = curate(raw, tmp_path / "out", settings, ProcessExecutor(2))
    assert (summary.num_clips, summary.num_dead) == (2, 1)
    dead = json.loads((tmp_path / "out" / "dead_letter.jsonl").read_text())
    assert dead["detail"] == "its worker was killed by SIGSEGV, 3 times"
    assert (dead["name"], dead["stage"], dead["reason"]) == (
        "sub/robot.mp4",
        "poison",
        "worker_died",
    )
    assert curate(raw, tmp_path / "out", settings).num_reused == 4  # it is not touched again


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(raw, tmp_path):
    curate(raw, tmp_path / "straight", SETTINGS)
    output = tmp_path / "out"
    command = [sys.executable, "-W", "ignore", "-m", "nemo_cosmos", "curate", str(raw), str(output)]
    command += ["--min-clip-s", "1", "--skip", "all", "--workers", "2", "--json"]
    started_s = time.monotonic()
    rng = random.Random(4)
    num_killed = 0
    for _ in range(4):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _wait_for(output / ".work" / "lock", run)
        time.sleep(rng.uniform(0.0, 3.0))
        num_killed += run.poll() is None
        run.kill()
        run.wait()
    assert num_killed, f"every run ended by itself in {time.monotonic() - started_s:.0f} s"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert tree(output) == tree(tmp_path / "straight")


def _wait_for(path: Path, run: subprocess.Popen) -> None:
    """Until the run has begun to write."""
    path.unlink(missing_ok=True)
    while not path.exists() and run.poll() is None:
        time.sleep(0.02)
