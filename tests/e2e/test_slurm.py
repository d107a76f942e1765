"""Jobs in a real Slurm: four machines that are daemons of this one (``slurm_cluster.sh``).

The tests run small commands in the place of ours. Those that wait for Slurm's own times take a
minute and are asked for with ``NEMO_COSMOS_E2E=slurm``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch import Job, Resources, SlurmLauncher, SlurmSettings, run_chain
from nemo_cosmos.launch.jobs.state import Word
from nemo_cosmos.launch.jobs.watch import cancel_job, job_log, list_jobs, state_of

NUM_NODES, LIMIT_S = 4, 300.0
takes_long = pytest.mark.skipif(
    os.environ.get("NEMO_COSMOS_E2E") != "slurm", reason="NEMO_COSMOS_E2E=slurm asks for it"
)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_places")]


@pytest.fixture
def launcher(cluster: Any, tmp_path: Path) -> Iterator[Callable[..., SlurmLauncher]]:
    """Make a launcher whose jobs run lines of shell in the place of our commands."""

    def make(lines: str = "true", **settings: Any) -> SlurmLauncher:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/bash\n{lines}\n")
        program.chmod(0o755)
        given = {"python": str(program), "job_dir": str(tmp_path / "jobs"), "gpus_per_node": 0}
        return SlurmLauncher(SlurmSettings(**{**given, **settings}))

    yield make
    cluster.clear()


def command(*words: str, nodes: int = 1, devices: int = 1, **more: Any) -> Job:
    return Job(words[0], None, words, Resources(nodes, devices), **more)


@pytest.mark.parametrize(
    ("settings", "nodes", "said", "fix"),
    [
        ({"partition": "gpu"}, 1, "nvalid partition", "sinfo -s"),
        ({}, 9, "Partition", "--nodes"),
        ({"partition": "short"}, 2, "Partition", "--nodes"),
        ({"partition": "short", "time": "01:00:00"}, 1, "Partition", "cluster.time"),
        ({"partition": "closed", "account": "mine"}, 1, "account", "cluster.account"),
        ({"reservation": "ours"}, 1, "reservation is invalid", "cluster.reservation"),
        ({"constraint": "h100"}, 1, "nvalid feature", "cluster.constraint"),
        ({"gpus_per_node": 8}, 1, "generic resource", "cluster.gpus_per_node"),
        ({"mem": "999G"}, 1, "node configuration is not available", "cluster.mem"),
        ({"sbatch": {"licenses": "fs"}}, 1, "license", "cluster.sbatch"),
    ],
)
def test_what_slurm_cannot_run_is_refused_in_its_words(
    launcher, cluster, settings, nodes, said, fix
):
    with pytest.raises(ConfigError) as refused:
        launcher(**settings).run(command("curate", nodes=nodes))
    assert said in str(refused.value) and fix in str(refused.value)
    assert not cluster.queue() and not list_jobs()


def test_a_job_waits_for_machines_that_are_down(launcher, cluster):
    cluster.update("nodename=n1", "state=down", "reason=maintenance")
    try:
        job = cluster.number_of(launcher(partition="short", time="00:05:00").run(command("curate")))
        cluster.wait_for(job, Word.WAITING)
        assert "down" in state_of(job).why.lower()
        cluster.update("nodename=n1", "state=resume")
        cluster.wait_for(job, Word.DONE)
    finally:
        cluster.update("nodename=n1", "state=resume")


def test_ranks_find_each_other_and_write_one_log(launcher, cluster):
    lines = 'echo "$RANK of $WORLD_SIZE on $SLURMD_NODENAME at $MASTER_ADDR"'
    job = cluster.number_of(launcher(lines).run(command("evaluate", "a", "b", nodes=2, devices=2)))
    whole = sorted(line for line in job_log(job, follow=True) if " of 4 " in line)
    first, second = whole[0].split()[5], whole[3].split()[5]
    assert {first, second} < {"n1", "n2", "n3", "n4"} and first < second
    assert whole == [
        f"{rank}: {rank} of 4 on {(first, second)[rank // 2]} at 127.0.0.1" for rank in range(4)
    ]
    assert list(job_log(job, rank=3)) == [f"3 of 4 on {second} at 127.0.0.1"]
    cluster.wait_for(job, Word.DONE)
    with pytest.raises(ConfigError, match="between 0 and 3"):
        list(job_log(job, rank=4))


def test_a_waiting_job_says_why_and_both_can_be_cancelled(launcher, cluster):
    first = cluster.number_of(launcher("exec sleep 100").run(command("curate", nodes=NUM_NODES)))
    second = cluster.number_of(launcher("exec sleep 100").run(command("tokenize")))
    cluster.wait_for(first, Word.RUNNING)
    until_s = time.monotonic() + LIMIT_S
    while not (state := state_of("tokenize")).why.startswith(("Resources: ", "Priority: ")):
        assert state.word is Word.WAITING and time.monotonic() < until_s, state
        time.sleep(0.2)
    assert {row["job"]: row["state"] for row in list_jobs()} == {
        first: "running",
        second: "waiting",
    }
    for job in (second, first):
        assert cancel_job(job) == job
        cluster.wait_for(job, Word.CANCELLED)
    with pytest.raises(ConfigError, match="has ended already: cancelled"):
        cancel_job(first)
    with pytest.raises(ConfigError, match=r"nearest are .*'tokenize'"):
        cancel_job("tokenise")


def test_each_run_of_a_sweep_has_its_own_log_and_state(launcher, cluster):
    variants = [("code=0", "log.name=a"), ("code=3", "log.name=b"), ("code=0", "log.name=c")]
    made = launcher('echo "${@: -1}"; exit "${@: -2:1}"', sweep_at_once=2)
    job = cluster.number_of(
        made.run(command("pretrain", variants=[(w[0][-1:], w[1]) for w in variants]))
    )
    cluster.wait_for(f"{job}_2", Word.DONE)
    cluster.wait_for(f"{job}_1", Word.FAILED)
    assert state_of(f"{job}_1").why == "FAILED: NonZeroExitCode"
    assert "log.name=c" in list(job_log(f"{job}_2"))
    assert {row["job"] for row in list_jobs()} == {f"{job}_{place}" for place in range(3)}
    with pytest.raises(ConfigError, match="Follow one of them"):
        list(job_log(job, follow=True))


def test_a_chain_ends_with_its_first_failure(launcher, cluster, tmp_path):
    launcher('case "$3" in tokenize) exit 2 ;; *) echo "did $3" ;; esac')
    site = {"executor": "slurm", "gpus_per_node": 0, "job_dir": str(tmp_path / "jobs")}
    site["python"] = str(tmp_path / "program")
    jobs = [command("curate"), command("tokenize"), command("evaluate")]
    first, second, third = (cluster.number_of(each) for each in run_chain(jobs, site))
    cluster.wait_for(second, Word.FAILED)
    cluster.wait_for(third, Word.CANCELLED)
    assert state_of(first).word is Word.DONE and "did curate" in list(job_log(first))


def test_a_failure_goes_back_into_the_queue_and_a_refusal_does_not(launcher, cluster, tmp_path):
    lines = f'echo turn >> {tmp_path}/turns; [ "$(wc -l < {tmp_path}/turns)" = 2 ]'
    job = cluster.number_of(launcher(lines, retries=2).run(command("curate")))
    cluster.wait_for(job, Word.DONE)
    assert (tmp_path / "turns").read_text() == "turn\nturn\n"
    refused = cluster.number_of(launcher("exit 3", retries=2).run(command("curate")))
    cluster.wait_for(refused, Word.FAILED)


@takes_long
def test_a_preempted_job_waits_and_goes_on(launcher, cluster, tmp_path):
    """It ends within its grace, as one that was stopped by a person."""
    lines = f'trap "exit 130" TERM; echo turn >> {tmp_path}/turns'
    lines += '; [ ! "$SLURM_RESTART_COUNT" ] || exit 0; while sleep 0.1; do :; done'
    made = launcher(lines, partition="spare")
    job = cluster.number_of(made.run(command("pretrain", nodes=NUM_NODES)))
    until_s = time.monotonic() + LIMIT_S
    while not (tmp_path / "turns").exists():
        assert time.monotonic() < until_s
        time.sleep(0.1)
    program = tmp_path / "now"  # the first one still runs its own
    program.write_text("#!/bin/bash\ntrue\n")
    program.chmod(0o755)
    other = launcher(lines, partition="main", python=str(program))
    first = cluster.number_of(other.run(command("curate", nodes=NUM_NODES)))
    cluster.wait_for(first, Word.DONE)
    cluster.wait_for(job, Word.DONE)
    assert len(read(tmp_path / "turns")) == 2 * NUM_NODES


@takes_long
def test_a_machine_that_computes_wrong_numbers_is_left_out(launcher, cluster):
    wrong = 'printf "77\\nn1\\n" > "$NEMO_COSMOS_EXIT_FILE"; exit 1'
    lines = f'echo "on $SLURMD_NODENAME"; [ "$SLURM_RESTART_COUNT" ] || {{ {wrong}; }}'
    job = cluster.number_of(launcher(lines).run(command("curate")))
    cluster.wait_for(job, Word.DONE)
    places = [line for line in job_log(job) if line.startswith("on n")]
    assert places[0] == "on n1" and places[1] != "on n1" and len(places) == 2


@takes_long
def test_a_lost_machine_is_replaced_or_done_without(launcher, cluster, tmp_path):
    turns = f'echo "$*" >> {tmp_path}/turns.$SLURM_RESTART_COUNT'
    lines = turns + '; [ "$SLURM_RESTART_COUNT" ] || exec sleep 100'
    made = launcher(lines, min_nodes=2, sbatch={"exclude": "n4"})
    job = cluster.number_of(made.run(command("curate", nodes=3)))
    until_s = time.monotonic() + LIMIT_S
    while not (tmp_path / "turns.").exists() or len(read(tmp_path / "turns.")) < 3:
        assert time.monotonic() < until_s
        time.sleep(0.2)
    cluster.lose("n2")
    cluster.wait_for(job, Word.DONE)
    assert len(read(tmp_path / "turns.1")) == 2
    cluster.revive("n2")


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()
