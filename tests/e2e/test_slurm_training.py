"""Training in a real Slurm that ends, requeues and loses its jobs: the weights are the same.

A minute or more each, so they are asked for with ``NEMO_COSMOS_E2E=slurm``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nemo_cosmos.launch import Job, SlurmLauncher, SlurmSettings, configure_recipe
from nemo_cosmos.launch.jobs.state import Word
from nemo_cosmos.launch.jobs.watch import cancel_job, job_log
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.site import compose_site
from nemo_cosmos.testing.tiny import Clips, write_latents
from nemo_cosmos.training.run_folder import list_checkpoints

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("own_places"),
    pytest.mark.skipif(
        os.environ.get("NEMO_COSMOS_E2E") != "slurm", reason="NEMO_COSMOS_E2E=slurm asks for it"
    ),
]

PROGRAM = Path(__file__).with_name("watched_training.py")
NUM_NODES, NUM_STEPS, LIMIT_S = 4, 24, 1500.0
STEP = re.compile(r"step (\d+) on (\d+) ranks")
FACTORY = "diffusion_nano_text2world"


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    width = DIFFUSION[FACTORY].network["crossattn_emb_channels"]
    folder = tmp_path_factory.mktemp("data")
    write_latents(folder, Clips(num_samples=24, text_dim=width))
    return folder


@pytest.fixture
def start(cluster: Any, latents: Path, tmp_path: Path) -> Any:
    """Put a training of two machines into the queue; the job's number and the run's folder."""

    def run(
        name: str,
        *words: str,
        delay_s: float = 0.5,
        start_s: float = 0.0,
        hang: Path | None = None,
        nodes: int = 2,
        **settings: Any,
    ) -> tuple[str, Path]:
        program = tmp_path / "program"
        # In the place of 'python -m nemo_cosmos'.
        program.write_text(
            f'#!/bin/bash\nexec {shlex.quote(sys.executable)} -W ignore {PROGRAM} "${{@:3}}"\n'
        )
        program.chmod(0o755)
        overrides = [
            f"data.path={latents}",
            "data.global_batch_size=4",
            "data.micro_batch_size=2",
            f"log.log_dir={tmp_path / 'runs'}",
            f"log.name={name}",
            f"trainer.max_steps={NUM_STEPS}",
            "trainer.devices=1",
            f"trainer.num_nodes={nodes}",
            "log.ckpt.every_n_train_steps=4",
            "log.ckpt.train_time_interval_s=None",
            "model.config.num_layers=1",
            "trainer.callbacks.SampleVideos.every_n_steps=0",
            *words,
        ]
        recipe = configure_recipe(FACTORY, overrides, compose_site(), False)
        job = Job.for_recipe(recipe, ["pretrain", "--factory", FACTORY, *overrides])
        variables = {
            "WATCHED_DELAY_S": str(delay_s),
            "WATCHED_START_S": str(start_s),
            "WATCHED_HANG": str(hang or ""),
        }
        given = {
            "python": str(program),
            "job_dir": str(tmp_path / "jobs"),
            "gpus_per_node": 0,
            "env_vars": variables,
        }
        launcher = SlurmLauncher(SlurmSettings(**given | settings))
        return cluster.number_of(launcher.run(job)), tmp_path / "runs" / name

    yield run
    cluster.clear()


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, torch.Tensor]]:
    """The weights of a run that nothing happened to, once it was made."""
    return {}


@pytest.fixture
def reference(undisturbed, start, cluster) -> dict[str, torch.Tensor]:
    if not undisturbed:
        job, folder = start("undisturbed", delay_s=0.0)
        cluster.wait_for(job, Word.DONE, limit_s=LIMIT_S)
        undisturbed["weights"] = weights(folder)
    return undisturbed["weights"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "model.safetensors")


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def wait_until(what: Callable[[], object], job: str) -> None:
    until_s = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < until_s, "\n".join(list(job_log(job))[-60:])
        time.sleep(0.1)


def saved(folder: Path) -> int:
    """The step of the newest checkpoint."""
    found = list_checkpoints(folder)
    return found[-1][1] if found else 0


def test_cancelled_requeued_and_a_node_lost_the_weights_are_the_same(start, cluster, reference):
    job, folder = start("disturbed")
    wait_until(lambda: saved(folder) >= 4, job)
    subprocess.run(["scontrol", "requeue", job], check=True)
    wait_until(lambda: saved(folder) >= 8, job)
    cancel_job(job)
    cluster.wait_for(job, Word.CANCELLED)
    wait_until(lambda: not cluster.queue(), job)
    stopped_at = saved(folder)
    assert 8 <= stopped_at < NUM_STEPS

    job, folder = start("disturbed", delay_s=2.0)
    wait_until(lambda: saved(folder) > stopped_at, job)
    cluster.lose("n2")
    assert saved(folder) < NUM_STEPS
    try:
        cluster.wait_for(job, Word.DONE, limit_s=LIMIT_S)
    finally:
        cluster.revive("n2")
    assert_same(weights(folder), reference)
    for rank in (0, 1):  # of both ranks, in one place
        assert list(job_log(job, rank=rank))


def test_the_time_limit_saves_and_the_next_turn_goes_on(start, cluster, reference):
    job, folder = start("limited", time="60", save_before_end_s=60, delay_s=6.0)
    wait_until(lambda: saved(folder) >= 4, job)
    # The limit is brought near, as nobody knows how long a machine takes to get there.
    set_limit(job, minutes_run(job) + 2)
    wait_until(lambda: any("goes back" in line for line in job_log(job)), job)
    set_limit(job, 60)
    cluster.wait_for(job, Word.DONE, limit_s=LIMIT_S)
    log = list(job_log(job))
    assert [line for line in log if "gave its machines back" in line], log[-40:]
    assert not any("failed with" in line for line in log)
    assert_same(weights(folder), reference)


def minutes_run(job: str) -> int:
    """How long a job has run, in whole minutes."""
    said = subprocess.run(
        ["squeue", f"--job={job}", "--noheader", "--format=%M"],
        text=True,
        capture_output=True,
        check=True,
    )
    *hours, minutes, _ = said.stdout.strip().split(":")
    return int(minutes) + 60 * int(hours[0] if hours else 0)


def set_limit(job: str, minutes: int) -> None:
    # A job that has just ended has no limit to set.
    subprocess.run(["scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}"], check=False)


def test_a_hang_is_ended_and_started_again(start, cluster, reference, tmp_path):
    hang = tmp_path / "hang"
    hang.touch()
    job, folder = start("hung", "trainer.resilience.hang_minutes=0.3", delay_s=0.0, hang=hang)
    cluster.wait_for(job, Word.DONE, limit_s=LIMIT_S)
    assert not hang.exists()
    log = list(job_log(job))
    assert any("failed with exit code 76" in line for line in log), log[-40:]
    assert len(list((folder / "stacks").iterdir())) == 2
    assert_same(weights(folder), reference)


@pytest.mark.parametrize(("nodes", "batch"), [(2, 4), (4, 12)])
def test_without_a_machine_the_run_goes_on_with_the_others(start, cluster, nodes, batch):
    """From a checkpoint of all, whose parts are distributed anew."""
    others = {} if nodes == NUM_NODES else {"sbatch": {"exclude": "n3,n4"}}
    words = [f"data.global_batch_size={batch}", "data.micro_batch_size=1"]
    job, folder = start("smaller", *words, nodes=nodes, min_nodes=nodes - 1, **others)
    wait_until(lambda: saved(folder) >= 8, job)
    cluster.lose("n2")
    try:
        cluster.wait_for(job, Word.DONE, limit_s=LIMIT_S)
    finally:
        cluster.revive("n2")
    assert saved(folder) == NUM_STEPS
    ranks = {int(step): int(num) for step, num in STEP.findall("\n".join(job_log(job)))}
    assert ranks.keys() == set(range(1, NUM_STEPS + 1))
    assert ranks[1] == nodes and ranks[NUM_STEPS] == nodes - 1


def test_a_time_limit_shorter_than_the_start_ends_with_an_error(start, cluster):
    """Each turn is put back before its limit without a step: more of them would not help."""
    slow = {"save_before_end_s": 60, "delay_s": 0.0, "start_s": 3600.0}
    job, folder = start("short", time="60", retries=1, **slow)
    for turn in range(2):
        # As in the test of the time limit; and a signal before Python listens would be lost.
        wait_until(lambda turn=turn: count(job, "starts late") > turn, job)
        set_limit(job, minutes_run(job) + 2)
        wait_until(lambda turn=turn: count(job, "before any work was saved") > turn, job)
        set_limit(job, 60)
    cluster.wait_for(job, Word.FAILED, limit_s=LIMIT_S)
    assert count(job, "failed with exit code 78, and goes back into the queue") == 1
    assert count(job, "failed 2 times in a row") == count(job, "ended with exit code 78") == 1
    assert not saved(folder)


def count(job: str, words: str) -> int:
    """Lines of a job's log that hold some words; of a line of all ranks, the first one's."""
    return sum(words in line and not line.startswith("1: ") for line in job_log(job))
