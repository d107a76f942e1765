"""A training run is killed and goes on with other ranks and workers: no sample twice or never."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.testing.tiny import Clips, write_latents
from nemo_cosmos.training.run_folder import list_checkpoints

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("recorded_training.py")
REPOSITORY = Path(__file__).parents[2]
NUM_SAMPLES, BATCH_SIZE, NUM_EPOCHS = 24, 4, 2
NUM_STEPS = NUM_SAMPLES * NUM_EPOCHS // BATCH_SIZE


def command(folder: Path, record: str, delay_s: float, devices: int, *words: str) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]
    return [
        sys.executable,
        *(launcher if devices > 1 else []),
        *(str(PROGRAM), str(folder / record), str(delay_s)),
        f"data.path={folder / 'data'}",
        f"data.global_batch_size={BATCH_SIZE}",
        f"log.log_dir={folder / 'runs'}",
        f"trainer.max_steps={NUM_STEPS}",
        f"trainer.devices={devices}",
        "log.ckpt.every_n_train_steps=2",
        "log.ckpt.train_time_interval_s=None",
        "model.config.num_layers=1",
        "trainer.callbacks.SampleVideos.every_n_steps=0",
        *words,
    ]


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a launcher and its workers, which are in sessions of their own, with no warning."""
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=30)
    process.wait()


def seen(record: Path, first: int, last: int) -> list[str]:
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    return [key for line in lines if first <= line["step"] < last for key in line["keys"]]


def test_killed_on_two_ranks_and_resumed_on_one_with_two_workers(tmp_path):
    width = DIFFUSION["diffusion_nano_text2world"].network["crossattn_emb_channels"]
    write_latents(tmp_path / "data", Clips(num_samples=NUM_SAMPLES, text_dim=width))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    run = tmp_path / "runs" / "diffusion_nano_text2world"
    with (tmp_path / "first.log").open("wb") as log:
        first = subprocess.Popen(
            command(tmp_path, "first.jsonl", 0.4, 2, "data.micro_batch_size=2"),
            env=environment,
            stdout=log,
            stderr=log,
        )
        until_s = time.monotonic() + 300
        while not list_checkpoints(run) and time.monotonic() < until_s:
            assert first.poll() is None, (tmp_path / "first.log").read_text()[-3000:]
            time.sleep(0.05)
        kill_all(first)
    step = list_checkpoints(run)[-1][1]
    assert 0 < step < NUM_STEPS

    words = ("data.micro_batch_size=4", "data.num_workers=2")
    second = subprocess.run(
        command(tmp_path, "second.jsonl", 0.0, 1, *words),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 0, second.stderr[-3000:]
    keys = seen(tmp_path / "first.jsonl", 0, step) + seen(
        tmp_path / "second.jsonl", step, NUM_STEPS
    )
    assert sorted(int(key.split("@")[1]) for key in keys) == list(range(NUM_SAMPLES * NUM_EPOCHS))
    by_epoch = [Counter(), Counter()]
    for key in keys:
        name, _, position = key.partition("@")
        by_epoch[int(position) // NUM_SAMPLES][name] += 1
    assert by_epoch == [Counter(f"s{number}" for number in range(NUM_SAMPLES))] * NUM_EPOCHS
