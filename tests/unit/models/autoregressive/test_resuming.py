"""A training of codes that stops goes on bit for bit, with its average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from nemo_cosmos.api import pretrain
from nemo_cosmos.testing.tiny import Clips, tiny_tokenizer, write_latents
from nemo_cosmos.training.callbacks.ema import EMA
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.trainer import WorldTrainer
from tests.unit.models.autoregressive.test_world import LEVELS, NUM_CODES, arguments, model


def test_a_stopped_training_goes_on_bit_for_bit_with_its_average(tmp_path: Path) -> None:
    tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=LEVELS).save(tmp_path / "tokenizer")
    # Two batches of four: the order of the data has to go on, too.
    clips = Clips(num_codes=NUM_CODES, num_samples=8)
    data = write_latents(tmp_path / "data", clips, tokenizer=tmp_path / "tokenizer")

    def run(name: str, max_steps: int, *, ema: bool = True) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        settings: dict[str, Any] = arguments(data, tmp_path, name, max_steps)
        settings["log"].ckpt = StepCheckpoint(every_n_train_steps=3)
        callbacks = [EMA(decay=0.9)] if ema else []
        settings["trainer"] = WorldTrainer(
            max_steps=max_steps, log_every_n_steps=1, callbacks=callbacks
        )
        return load_file(pretrain(model(), **settings) / "export" / "model.safetensors")

    whole, plain = run("whole", 5), run("plain", 5, ema=False)
    run("parts", 3)
    parts = run("parts", 5)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
    assert any(not torch.equal(plain[name], tensor) for name, tensor in whole.items())
