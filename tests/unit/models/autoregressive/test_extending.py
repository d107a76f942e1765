"""Training goes on from weights of other positions, or of a model without text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nemo import lightning as nl

from nemo_cosmos.api import finetune
from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import load_world, save_world
from nemo_cosmos.data.modules import CodesDataModule
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.model import TEXT_SETTINGS, ARModel
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.settings import ARSettings
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.tiny import Clips, tiny_tokenizer, write_latents
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer

NUM_CODES = 64
"""A multiple of the padding, so that the token of the beginning needs further rows."""
SIZES: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 24,
    "ffn_hidden_size": 32,
    "num_attention_heads": 2,
    "num_query_groups": 1,
    "vocab_size": NUM_CODES,
    "max_frames": 2,
    "max_height": 8,
    "max_width": 8,
}
TEXT: dict[str, Any] = {
    "context_channels": Clips.text_dim,
    "absolute_positions": True,
    "begin_token": True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extending")
    tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=(4, 4, 4)).save(folder / "tokenizer")
    clips = Clips(num_codes=NUM_CODES, num_samples=4)
    return write_latents(folder / "data", clips, tokenizer=folder / "tokenizer")


@pytest.fixture(scope="module")
def world(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of two latent frames, without a text."""
    ensure_model_parallel()
    torch.manual_seed(0)
    config, folder = ARConfig(**SIZES), tmp_path_factory.mktemp("world") / "export"
    description = WorldConfig(
        family="autoregressive",
        model=ARSettings(config.architecture(), ARProcess()),
        text_encoder={"kind": "embedded", "path": None, "max_length": 5, "dim": Clips.text_dim},
        video={"num_frames": 5, "fps": 10.0, "height": 32, "width": 32},
    )
    save_world(folder, ARNetwork(config), description, data.parent / "tokenizer")
    return folder


def go_on(world: Path, data: Path, folder: Path, extends: Any = (), **network: Any) -> Path:
    """One step of training on videos of three latent frames."""
    return finetune(
        ARModel(ARConfig(**{**SIZES, "max_frames": 3, **network}), extends=extends),
        data=CodesDataModule(str(data), micro_batch_size=4, global_batch_size=4, text_length=8),
        trainer=WorldTrainer(max_steps=1, log_every_n_steps=1),
        log=RunLogger(
            name="on",
            log_dir=str(folder),
            tensorboard_enabled=False,
            ckpt=StepCheckpoint(every_n_train_steps=1),
        ),
        resume=RunResume(restore_config=nl.RestoreConfig(path=str(world))),
    )


def test_longer_videos_with_yarn_only_on_purpose(world: Path, data: Path, tmp_path: Path) -> None:
    longer = {"yarn_lengths_thw": (2, 8, 8)}
    with pytest.raises(ConfigError, match="yarn_lengths_thw=None"):
        go_on(world, data, tmp_path, ["max_frames", "text_length"], **longer)
    extends = ["max_frames", "yarn_lengths_thw", "text_length"]
    run = go_on(world, data, tmp_path, extends, **longer)
    after, before = (load_world(one).net.state_dict() for one in (run / "export", world))
    assert after.keys() == before.keys()
    assert 0 < (after["output.weight"] - before["output.weight"]).abs().max() < 0.05


def test_a_text_is_added_to_weights_without(world: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="begin_token=False"):
        go_on(world, data, tmp_path, ["max_frames", "text_length"], **TEXT)
    run = go_on(world, data, tmp_path, ["max_frames", *TEXT_SETTINGS], **TEXT)
    after, before = (load_world(one).net.state_dict() for one in (run / "export", world))
    assert len(after["embedding.weight"]) == 2 * NUM_CODES == 2 * len(before["embedding.weight"])
    for name in before:
        if name.endswith("weight"):
            kept = after[name][: len(before[name])]
            assert (kept - before[name]).abs().max() < 0.05, name
    new = {name for name in after if name not in before and name.endswith("weight")}
    assert new and all(".cross_attention" in name for name in new)


def test_what_weights_fix_cannot_be_extended() -> None:
    with pytest.raises(ConfigError, match="extends has 'num_layers'"):
        ARModel(ARConfig(**SIZES), extends=["num_layers"])
    with pytest.raises(ConfigError, match="must be a list"):
        ARModel(ARConfig(**SIZES), extends="max_frames")
