"""Commands that a person types, on a real Slurm: a sweep that trains, and the road as one chain.

Minutes each, so they are asked for with ``NEMO_COSMOS_E2E=slurm``.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nemo_cosmos.launch.jobs.state import Word
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.site import keep_choices
from nemo_cosmos.testing.tiny import Clips, tiny_tokenizer, write_latents

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("own_places"),
    pytest.mark.skipif(
        os.environ.get("NEMO_COSMOS_E2E") != "slurm", reason="NEMO_COSMOS_E2E=slurm asks for it"
    ),
]

LIMIT_S = 1200.0
BASE = "diffusion_nano_video2world"
WINDOW_FRAMES, TEXT_LENGTH = 9, 32
SMALL = [
    "model.config.num_layers=1",
    "data.global_batch_size=2",
    "data.micro_batch_size=1",
    "trainer.callbacks.SampleVideos.every_n_steps=0",
    "log.log_dir=runs",
]


@pytest.fixture
def start(command, tmp_path):
    """A tokenizer, latents of it, and a world to start from."""
    width = DIFFUSION[BASE].network["crossattn_emb_channels"]
    tiny_tokenizer().save(tmp_path / "tokenizer")
    text = {"kind": "embedded", "path": None, "max_length": TEXT_LENGTH, "dim": width}
    clips = Clips(num_samples=8, text_dim=width)
    write_latents(tmp_path / "noise", clips, tokenizer=tmp_path / "tokenizer", text_encoder=text)
    made = command(
        *("pretrain", "--factory", BASE, "data.path=noise", "trainer.max_steps=1"),
        *(*SMALL, "log.name=base"),
    )
    assert made.returncode == 0, made.stderr
    return tmp_path / "runs" / "base" / "export"


@pytest.fixture
def slurm(cluster, start):
    """The cluster, where all commands run from now on."""
    keep_choices(["cluster=slurm", "cluster.gpus_per_node=0", "cluster.retries=0"])
    yield cluster
    cluster.clear()


def numbers(submitted: str) -> list[str]:
    """The jobs that a command has submitted."""
    return re.findall(r"Submitted '.*' as job (\d+)", submitted)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "model.safetensors")


def test_a_sweep_trains_each_value(slurm, command, start, tmp_path):
    rates = ["1e-5", "1e-3"]
    said = command(
        *("finetune", "--factory", BASE, "--from", start, "data.path=noise"),
        *("trainer.max_steps=3", *SMALL, "log.name=rates", "--on", "slurm"),
        *("--sweep", f"optim.config.lr={','.join(rates)}"),
    )
    [job] = numbers(said.stdout)
    for place in range(2):
        slurm.wait_for(f"{job}_{place}", Word.DONE, limit_s=LIMIT_S)
    rows = [
        row
        for row in json.loads(command("status", "--json").stdout)["jobs"]
        if row["on"] == "slurm"
    ]
    assert {row["job"]: row["state"] for row in rows} == {f"{job}_0": "done", f"{job}_1": "done"}
    assert {(row["done"], row["total"]) for row in rows} == {(3, 3)}
    runs = [next((tmp_path / "runs").glob(f"rates*{rate}*")) for rate in rates]
    base, (slow, fast) = weights(start.parent), [weights(run) for run in runs]
    # The larger the rate, the further the weights have gone.
    moved = [
        sum(float((each[name] - base[name]).abs().sum()) for name in base) for each in (slow, fast)
    ]
    assert 0 < moved[0] * 10 < moved[1]
    for place, run in enumerate(runs):
        log = command("logs", f"{job}_{place}").stdout
        assert "train: 3 of 3 steps" in log, log
        assert json.loads((run / "finished.json").read_text())["step"] == 3


def test_raw_video_becomes_an_evaluated_model_in_one_chain(
    slurm, command, start, tmp_path, samples_dir
):
    bridge = samples_dir / "robotics_bridge"
    converted = command("convert", "bridge", bridge, "episodes", "--size", "32x32")
    assert converted.returncode == 0, converted.stderr
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for file in (tmp_path / "episodes").glob(f"bridge_{part}_*"):
            file.rename(tmp_path / part / file.name)
    curate = ["--split", "none", "--min-clip-s", "0.5", "--catalogue", "all.db", "--skip", "all"]
    curate += ["--min-motion", "0", "--min-patch-motion", "0"]  # a fixed camera
    tokenize = f"--window-frames {WINDOW_FRAMES} --size 32x32 --text-length {TEXT_LENGTH}"
    post = ["data.path=latents", "trainer.max_steps=2", *SMALL, "log.name=obeys", "--nodes 2"]
    said = command(
        *("curate", "train", "shards", *curate, "--on", "slurm"),
        *("--then", f"tokenize shards latents --tokenizer tokenizer {tokenize}"),
        *("--then", f"finetune --factory diffusion_nano_action --from {start} {' '.join(post)}"),
        *("--then", "evaluate --model runs/obeys/export --data val --limit 2 --out trial"),
    )
    jobs = numbers(said.stdout)
    assert len(jobs) == 4, said.stderr
    for job in jobs:
        slurm.wait_for(job, Word.DONE, limit_s=LIMIT_S)
    assert json.loads((tmp_path / "shards" / "summary.json").read_text())["num_clips"] == 10
    assert json.loads((tmp_path / "latents" / "dataset.json").read_text())["num_clips"] > 0
    report = json.loads((tmp_path / "trial" / "evaluation.json").read_text())
    assert {"psnr", "action_sensitivity"} <= report["scores"].keys()
    page = (tmp_path / "trial" / "evaluation.html").read_text()
    assert "data:video/mp4;base64," in page and "action_sensitivity" in page
