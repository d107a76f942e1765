"""One run that changes its parallel layout at every stop ends where an undisturbed one ends.

Weights, their average, the optimiser's moments, the place in the data and the randomness of each
step go through Megatron's distributed checkpoint from layout to layout.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nemo_cosmos.checkpoint.convert import import_checkpoint
from nemo_cosmos.checkpoint.safetensors_files import SafetensorsSource
from nemo_cosmos.data.latents import pack_embedding, pack_latent
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards import ShardWriter
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.models.tokenizer.network import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform.testing import run_distributed_test
from nemo_cosmos.training.run_folder import list_checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "diffusion_nano_text2world"
NUM_STEPS, NUM_SAMPLES, BATCH_SIZE = 6, 24, 4
TOLERANCE = 1e-3
"""Of the way that training went: sums over ranks round differently in every layout."""

LEGS: list[tuple[str, dict[str, int]]] = [
    ("TP2", {"tensor_model_parallel_size": 2}),
    ("TP1", {}),
    ("DP2", {}),
]


def write_data(folder: Path) -> None:
    width = DIFFUSION[NAME].network["crossattn_emb_channels"]
    generator = torch.Generator().manual_seed(0)
    with ShardWriter(folder, max_bytes=60_000) as writer:
        for number in range(NUM_SAMPLES):
            record = ClipRecord(
                key=f"s{number}", source="raw.mp4", span_s=(0.0, 0.9), fps=10.0, num_frames=9,
                width=32, height=32, caption="the arm moves",
            )  # fmt: skip
            latent = torch.randn(16, 3, 4, 4, generator=generator)
            text = torch.randn(3, width, generator=generator)
            files = {"latent.safetensors": pack_latent(latent)}
            writer.add(record, {**files, "t5.safetensors": pack_embedding(text)})
    tokenizer = replace(TOKENIZERS["tokenizer_nano_cv4x8x8"], channels=8, num_res_blocks=1)
    VideoTokenizer(TokenizerNetwork(tokenizer)).save(folder / "tok")
    dataset = {
        "tokenizer": "tok",
        "text_encoder": {"kind": "embedded", "path": None, "max_length": 8, "dim": width},
        "window": {"window_frames": 9, "size": [32, 32]},
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))


def train(folder: str, devices: int, layout: dict[str, int], stop: int) -> int:
    """One leg: go on until step ``stop``, and save there."""
    import fiddle as fdl
    import lightning.pytorch as pl

    from nemo_cosmos.training.quiet import quiet_nemo

    quiet_nemo()
    from nemo_cosmos.training.signals import StoppedError
    from recipes.overrides import apply_overrides
    from recipes.registry import get_recipe

    class StopAt(pl.Callback):
        def on_train_batch_start(self, trainer, *_) -> None:
            if trainer.global_step == stop - 1 and stop < NUM_STEPS:
                os.kill(os.getpid(), signal.SIGTERM)

    words = [
        f"data.path={Path(folder).parent / 'data'}",
        f"data.global_batch_size={BATCH_SIZE}",
        "data.micro_batch_size=2",
        f"log.log_dir={folder}",
        f"trainer.max_steps={NUM_STEPS}",
        f"trainer.devices={devices}",
        "log.ckpt.every_n_train_steps=100",
        "log.ckpt.train_time_interval_s=None",
        "model.config.num_layers=2",
        *(f"trainer.strategy.{name}={value}" for name, value in layout.items()),
    ]
    recipe = fdl.build(apply_overrides(get_recipe(NAME, False), words))
    trainer = recipe.keywords["trainer"]
    trainer.callbacks.append(StopAt())
    with contextlib.suppress(StoppedError):
        recipe()
    return int(trainer.global_step)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    source = SafetensorsSource(folder / "model.safetensors")
    return {name: source.read(name) for name in source.specs}


def distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    squares: list[Any] = [(left[name] - right[name]).square().sum() for name in left]
    return torch.stack(squares).sum().sqrt().item()


def test_tp2_to_tp1_to_dp2(two_processes, tmp_path):
    write_data(tmp_path / "data")
    run_distributed_test(train, 1, str(tmp_path / "whole"), 1, {}, 2)
    start = import_checkpoint(
        tmp_path / "whole" / NAME / "checkpoints" / "step=000002", tmp_path / "start"
    )
    run_distributed_test(train, 1, str(tmp_path / "whole"), 1, {}, NUM_STEPS)
    for number, (name, layout) in enumerate(LEGS, start=1):
        stop = 2 * number
        if name == "TP1":
            steps = run_distributed_test(train, 1, str(tmp_path / "parts"), 1, layout, stop)
        else:
            steps = two_processes.run(train, str(tmp_path / "parts"), 2, layout, stop)
        assert set(steps) == {stop}, name
        assert list_checkpoints(tmp_path / "parts" / NAME)[-1][1] == stop
    whole = weights(tmp_path / "whole" / NAME / "export")
    parts = weights(tmp_path / "parts" / NAME / "export")
    moved = distance(whole, weights(start))
    print("difference of the way:", distance(whole, parts) / moved)
    assert distance(whole, parts) <= TOLERANCE * moved
    checkpoint = tmp_path / "parts" / NAME / "checkpoints" / "step=000006"
    again = weights(import_checkpoint(checkpoint, tmp_path / "again"))
    assert all(torch.equal(again[name], parts[name]) for name in parts), "the average, as exported"
