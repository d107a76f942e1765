"""A family that the house does not know trains, saves, exports, is planned, and generates.

What it proves: nothing outside a family's own folder has to change for a new one.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import nemo_run as run
import numpy as np
import pytest
import torch
from nemo import lightning as nl

from nemo_cosmos.api import finetune, pretrain
from nemo_cosmos.checkpoint.convert import export_checkpoint, import_checkpoint
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import ShardWriter
from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.inference import WorldPipeline
from nemo_cosmos.models.common import family as families
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.planning.hardware import GB, get_gpu
from nemo_cosmos.planning.recipe import plan_recipe
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer
from recipes import common
from recipes.presets import list_presets

TEXT_TOKENS, TEXT_CHANNELS = 5, 12
NUM_STEPS = 12


@pytest.fixture(scope="module")
def toy() -> ModuleType:
    """The family's module, registered as a package's entry point would be."""
    name = "nemo_cosmos_toy_family"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("toy_family.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    families.register_family(module.ToyFamily())
    yield module
    del families._REGISTERED["toy"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tokenised clips whose latents move on in a way that can be learnt."""
    folder = tmp_path_factory.mktemp("toy")
    torch.manual_seed(0)
    config = replace(TOKENIZERS["tokenizer_nano_cv4x8x8"], channels=8, num_res_blocks=1)
    VideoTokenizer(TokenizerNetwork(config)).save(folder / "tokenizer")
    with ShardWriter(folder / "data") as writer:
        for number in range(2):
            first = torch.randn(16, 1, 4, 4)
            latent = torch.cat([first, -first, first], dim=1)
            record = ClipRecord(
                key=f"clip-{number}", source="clip.mp4", span_s=(0.0, 0.9), fps=10.0,
                num_frames=9, width=32, height=32, caption="it blinks",
            )  # fmt: skip
            embedding = pack_embedding(torch.randn(3, TEXT_CHANNELS))
            files = {"latent.safetensors": pack_latent(latent), "t5.safetensors": embedding}
            writer.add(record, files)
    text = {"kind": "words", "path": None, "max_length": TEXT_TOKENS, "dim": TEXT_CHANNELS}
    info = {
        "tokenizer": str(folder / "tokenizer"),
        "text_encoder": text,
        "window": {"window_frames": 9, "size": [32, 32]},
    }
    (folder / "data" / "dataset.json").write_text(json.dumps(info))
    return folder / "data"


def arguments(data: Path, folder: Path, name: str, max_steps: int = NUM_STEPS) -> dict[str, Any]:
    return {
        "data": LatentDataModule(
            str(data), micro_batch_size=2, global_batch_size=2, text_length=TEXT_TOKENS
        ),
        "trainer": WorldTrainer(max_steps=max_steps, log_every_n_steps=1),
        "log": RunLogger(
            name=name,
            log_dir=str(folder),
            tensorboard_enabled=False,
            ckpt=StepCheckpoint(every_n_train_steps=4),
        ),
    }


@pytest.fixture(scope="module")
def trained(toy: ModuleType, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = toy.ToyModel(toy.ToySettings(24, TEXT_CHANNELS), preset="toy_nano")
    return pretrain(model, **arguments(data, tmp_path_factory.mktemp("runs"), "toy"))


def test_it_trains_and_exports_a_world_folder(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == NUM_STEPS and losses[-1] < losses[0]
    content = json.loads((trained / "export" / "config.json").read_text())
    assert content["format"] == "nemo_cosmos.toy" and content["preset"] == "toy_nano"
    assert content["toy"] == {"width": 24, "text_channels": TEXT_CHANNELS}
    assert content["video"] == {"num_frames": 9, "fps": 10.0, "height": 32, "width": 32}


def test_post_training_starts_from_it(
    trained: Path, toy: ModuleType, data: Path, tmp_path: Path
) -> None:
    def tuned(width: int) -> Path:
        resume = RunResume(restore_config=nl.RestoreConfig(path=str(trained / "export")))
        model = toy.ToyModel(toy.ToySettings(width, TEXT_CHANNELS), preset="toy_nano")
        return finetune(model, resume=resume, **arguments(data, tmp_path, f"tuned_{width}", 1))

    after, before = (load_world(run / "export").net for run in (tuned(24), trained))
    moved = (after.outer.weight - before.outer.weight).abs().max()
    assert 0 < moved < 0.05
    with pytest.raises(ConfigError, match="has width=24, but 'this run' has width=32"):
        tuned(32)


def test_its_checkpoint_is_imported_and_its_world_exported(trained: Path, tmp_path: Path) -> None:
    (checkpoint, *_) = sorted((trained / "checkpoints").glob("step=000012"))
    imported = import_checkpoint(checkpoint, tmp_path / "imported")
    assert read_config(imported).family == "toy"
    written = export_checkpoint(trained / "export", tmp_path / "nemo", "nemo")
    again = import_checkpoint(written, tmp_path / "again")
    for folder in (imported, again):
        left, right = (load_world(one).net.state_dict() for one in (trained / "export", folder))
        assert all(torch.equal(left[name], right[name]) for name in left)
    with pytest.raises(ConfigError, match=r"no format 'diffusers'. Valid are nemo"):
        export_checkpoint(trained / "export", tmp_path / "hf", "diffusers")


def test_it_is_planned(toy: ModuleType, data: Path) -> None:
    settings = toy.ToySettings(24, TEXT_CHANNELS)
    recipe = common.task(
        model=run.Config(toy.ToyModel, settings=common.as_config(settings), preset="toy_nano"),
        data=run.Config(LatentDataModule, path=str(data), micro_batch_size=2, global_batch_size=8),
        trainer=common.trainer(NUM_STEPS, precision="32"),
        optim=common.adamw(1e-3, warmup_steps=1),
        log=common.log("toy"),
        post_training=False,
    )
    plan = plan_recipe(recipe, get_gpu("h100"), 2, 80 * GB).to_dict()
    assert plan["tokens_per_sample"] == 3 * 4 * 4
    assert plan["layout"]["data_parallel_size"] == 2
    assert plan["parameters"] == 16 * 24 + 24 + TEXT_CHANNELS * 24 + 24 + 24 * 16 + 16
    assert "paper_accounting" not in plan


def test_it_is_listed(toy: ModuleType) -> None:
    (row,) = list_presets("toy")
    assert row["name"] == "toy_nano" and row["width"] == 24 and row["parameters"] == 1120


class WordEncoder:
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(len(prompts[0]))
        shape = (len(prompts), TEXT_TOKENS, TEXT_CHANNELS)
        return torch.randn(shape, generator=generator), torch.ones(shape[:2])


class Allows:
    name = "allows"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def check(self, x: str | np.ndarray) -> Verdict:
        return Verdict(True, self.name, "safe", "it is a test")


def test_it_generates_through_the_pipeline(trained: Path, tmp_path: Path) -> None:
    guards = GuardPolicy(
        [Allows("prompt"), Allows("video")], audit=AuditLog(tmp_path / "audit.jsonl")
    )
    pipe = WorldPipeline(load_world(trained / "export"), WordEncoder(), guards)
    result = pipe.generate("it blinks", seed=3)
    assert result.video.frames_THWC.shape == (9, 32, 32, 3)
    assert result.provenance["model"]["preset"] == "toy_nano"
    frames = result.video.frames_THWC[:1]
    continued = pipe.predict("it blinks", frames, temperature=0.1)
    assert continued.video.frames_THWC.shape == (9, 32, 32, 3)
    assert np.abs(continued.video.frames_THWC.astype(int) - result.video.frames_THWC).max() > 0


def test_an_unknown_family_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'flow'.*'diffusion'"):
        families.get_family("flow")
    (tmp_path / "config.json").write_text(json.dumps({"format": "nemo_cosmos.flow", "version": 2}))
    with pytest.raises(CheckpointError, match=r"'nemo_cosmos\.flow'.*'nemo_cosmos\.diffusion'"):
        read_config(tmp_path)
