"""Jobs in a real Slurm: four machines that are daemons of this one (``slurm_cluster.sh``).

The tests run small commands in the place of ours. The one that loses a machine is asked for with
``NEMO_COSMOS_E2E=slurm`` and takes another minute.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch import Job, Resources, SlurmLauncher, SlurmSettings, Started, run_chain
from nemo_cosmos.launch.jobs.state import Word
from nemo_cosmos.launch.jobs.watch import cancel_job, job_log, list_jobs, state_of

REPOSITORY = Path(__file__).parents[2]
CLUSTER = Path(__file__).with_name("slurm_cluster.sh")
NUM_NODES = 4
takes_long = pytest.mark.skipif(
    os.environ.get("NEMO_COSMOS_E2E") != "slurm", reason="NEMO_COSMOS_E2E=slurm asks for it"
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running cluster, which ``SLURM_CONF`` names."""
    if not all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged")):
        pytest.skip("Slurm is not installed: bash tests/e2e/slurm_cluster.sh install")
    if os.getuid() != 0:
        pytest.skip("Slurm's daemons need root")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run(
        ["bash", str(CLUSTER), "start", str(folder), str(NUM_NODES)],
        env={**os.environ, "SLURM_BASE_PORT": str(_free_ports())},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if started.returncode:
        pytest.skip(f"Slurm does not start here: {started.stderr[-500:]}")
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "etc" / "slurm.conf")
    yield folder
    subprocess.run(["bash", str(CLUSTER), "stop", str(folder)], check=False, timeout=60)
    os.environ.pop("SLURM_CONF")
    if before is not None:
        os.environ["SLURM_CONF"] = before


def _free_ports() -> int:
    """The first of a few ports in a row that nobody listens to."""
    for first in range(21000, 31000, 100):
        try:
            for port in range(first, first + NUM_NODES + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    pytest.skip("no free ports")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site" / "site.txt"))
    monkeypatch.setenv("NEMO_COSMOS_AUDIT_LOG", str(tmp_path / "audit.jsonl"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def launcher(cluster: Path, tmp_path: Path) -> Iterator[Callable[..., SlurmLauncher]]:
    """Make a launcher whose jobs run lines of shell in the place of our commands."""

    def make(lines: str = "true", **settings: Any) -> SlurmLauncher:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/bash\n{lines}\n")
        program.chmod(0o755)
        given = {"python": str(program), "job_dir": str(tmp_path / "jobs"), "gpus_per_node": 0}
        return SlurmLauncher(SlurmSettings(**{**given, **settings}))

    yield make
    subprocess.run(["scancel", f"--user={os.getuid()}"], check=True)


def command(*words: str, nodes: int = 1, devices: int = 1, **more: Any) -> Job:
    return Job(words[0], None, words, Resources(nodes, devices), **more)


def queue() -> str:
    return subprocess.run(["squeue", "--noheader"], capture_output=True, text=True).stdout


def wait_for(job: str, *words: Word, limit_s: float = 60) -> None:
    """Wait until a job is in one of some states."""
    until_s = time.monotonic() + limit_s
    while (state := state_of(job)).word not in words:
        assert time.monotonic() < until_s, (job, state, queue())
        time.sleep(0.2)


def number_of(started: Started) -> str:
    assert started.number is not None
    return started.number


@pytest.mark.parametrize(
    ("settings", "nodes", "said", "fix"),
    [
        ({"partition": "gpu"}, 1, "nvalid partition", "sinfo -s"),
        ({}, 9, "node configuration is not available", "--nodes"),
        ({"partition": "short"}, 2, "node configuration is not available", "--nodes"),
        ({"partition": "short", "time": "01:00:00"}, 1, "Partition", "cluster.time"),
        ({"partition": "closed", "account": "mine"}, 1, "account", "cluster.account"),
        ({"reservation": "ours"}, 1, "reservation is invalid", "cluster.reservation"),
        ({"constraint": "h100"}, 1, "nvalid feature", "cluster.constraint"),
        ({"gpus_per_node": 8}, 1, "generic resource", "cluster.gpus_per_node"),
        ({"mem": "999G"}, 1, "node configuration is not available", "cluster.mem"),
        ({"sbatch": {"licenses": "fs"}}, 1, "license", "cluster.sbatch"),
    ],
)
def test_what_slurm_cannot_run_is_refused_in_its_words(launcher, settings, nodes, said, fix):
    with pytest.raises(ConfigError) as refused:
        launcher(**settings).run(command("curate", nodes=nodes))
    assert said in str(refused.value) and fix in str(refused.value)
    assert not queue() and not list_jobs()


def test_ranks_find_each_other_and_write_one_log(launcher):
    lines = 'echo "$RANK of $WORLD_SIZE on $SLURMD_NODENAME at $MASTER_ADDR"'
    job = number_of(launcher(lines).run(command("evaluate", "a", "b", nodes=2, devices=2)))
    whole = list(job_log(job, follow=True))
    assert sorted(line for line in whole if " of 4 " in line) == [
        f"{rank}: {rank} of 4 on n{1 + rank // 2} at 127.0.0.1" for rank in range(4)
    ]
    assert list(job_log(job, rank=3)) == ["3 of 4 on n2 at 127.0.0.1"]
    wait_for(job, Word.DONE)
    with pytest.raises(ConfigError, match="between 0 and 3"):
        list(job_log(job, rank=4))


def test_a_waiting_job_says_why_and_both_can_be_cancelled(launcher):
    first = number_of(launcher("exec sleep 100").run(command("curate", nodes=NUM_NODES)))
    second = number_of(launcher("exec sleep 100").run(command("tokenize")))
    wait_for(first, Word.RUNNING)
    until_s = time.monotonic() + 30
    while not (state := state_of("tokenize")).why.startswith(("Resources: ", "Priority: ")):
        assert state.word is Word.WAITING and time.monotonic() < until_s, state
        time.sleep(0.2)
    assert {row["job"]: row["state"] for row in list_jobs()} == {
        first: "running",
        second: "waiting",
    }
    for job in (second, first):
        assert cancel_job(job) == job
        wait_for(job, Word.CANCELLED)
    with pytest.raises(ConfigError, match="has ended already: cancelled"):
        cancel_job(first)
    with pytest.raises(ConfigError, match=r"nearest are .*'tokenize'"):
        cancel_job("tokenise")


def test_each_run_of_a_sweep_has_its_own_log_and_state(launcher):
    variants = [("code=0", "log.name=a"), ("code=3", "log.name=b"), ("code=0", "log.name=c")]
    made = launcher('echo "${@: -1}"; exit "${@: -2:1}"', sweep_at_once=2)
    job = number_of(made.run(command("pretrain", variants=[(w[0][-1:], w[1]) for w in variants])))
    wait_for(f"{job}_2", Word.DONE)
    wait_for(f"{job}_1", Word.FAILED)
    assert state_of(f"{job}_1").why == "FAILED: NonZeroExitCode"
    assert "log.name=c" in list(job_log(f"{job}_2"))
    assert {row["job"] for row in list_jobs()} == {f"{job}_{place}" for place in range(3)}
    with pytest.raises(ConfigError, match="Follow one of them"):
        list(job_log(job, follow=True))


def test_a_chain_ends_with_its_first_failure(launcher, tmp_path):
    launcher('case "$3" in tokenize) exit 2 ;; *) echo "did $3" ;; esac')
    cluster = {"executor": "slurm", "gpus_per_node": 0, "job_dir": str(tmp_path / "jobs")}
    cluster["python"] = str(tmp_path / "program")
    jobs = [command("curate"), command("tokenize"), command("evaluate")]
    first, second, third = (number_of(each) for each in run_chain(jobs, cluster))
    wait_for(second, Word.FAILED)
    wait_for(third, Word.CANCELLED)
    assert state_of(first).word is Word.DONE and "did curate" in list(job_log(first))


def test_a_failure_goes_back_into_the_queue_and_a_refusal_does_not(launcher, tmp_path):
    lines = f'echo turn >> {tmp_path}/turns; [ "$(wc -l < {tmp_path}/turns)" = 2 ]'
    job = number_of(launcher(lines, retries=2).run(command("curate")))
    wait_for(job, Word.DONE)
    assert (tmp_path / "turns").read_text() == "turn\nturn\n"
    refused = number_of(launcher("exit 3", retries=2).run(command("curate")))
    wait_for(refused, Word.FAILED)


@takes_long
def test_a_lost_machine_is_replaced_or_done_without(launcher, cluster, tmp_path):
    turns = f'echo "$*" >> {tmp_path}/turns.$SLURM_RESTART_COUNT'
    lines = turns + '; [ "$SLURM_RESTART_COUNT" ] || exec sleep 100'
    made = launcher(lines, min_nodes=2, sbatch={"exclude": "n4"})
    job = number_of(made.run(command("curate", nodes=3)))
    until_s = time.monotonic() + 30
    while not (tmp_path / "turns.").exists() or len(read(tmp_path / "turns.")) < 3:
        assert time.monotonic() < until_s
        time.sleep(0.2)
    subprocess.run(["bash", str(CLUSTER), "lose", str(cluster), "n2"], check=True)
    wait_for(job, Word.DONE, limit_s=90)
    assert len(read(tmp_path / "turns.1")) == 2
    subprocess.run(["bash", str(CLUSTER), "revive", str(cluster), "n2"], check=True)


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()
