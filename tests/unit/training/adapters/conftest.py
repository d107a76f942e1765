"""A tiny world, its data, and a run that trains an adapter of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl

from nemo_cosmos import api
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.testing.tiny import Clips, write_latents, write_world
from nemo_cosmos.training.adapters.lora import LoRA
from nemo_cosmos.training.callbacks.ema import EMA
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer

Train = Callable[..., Path]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("base") / "world")


@pytest.fixture(scope="session")
def latents(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latents")
    return write_latents(folder, Clips(with_actions=True), tokenizer=base / "tokenizer")


@pytest.fixture(scope="session")
def train(base: Path, latents: Path) -> Train:
    def run(
        folder: Path,
        steps: int,
        peft: LoRA | None = None,
        *,
        controls: tuple[str, ...] = (),
        lr: float = 1e-2,
        start: Path = base,
        **options: Any,
    ) -> Path:
        settings = read_config(base).model
        config = settings.network_config(**options.pop("network", {}))
        callbacks = [EMA(decay=0.5)] if options.pop("ema", False) else []
        callbacks += options.pop("callbacks", ())
        what = None if options.pop("all_weights", False) else peft or LoRA(dim=2, alpha=4)
        return api.finetune(
            DiffusionModel(
                config,
                settings.process,
                controls=[ControlSpec(name) for name in controls],
                tokenizer=TokenizerFacts(temporal_factor=4, spatial_factor=8),
                preset="tiny",
            ),
            LatentDataModule(
                str(latents),
                micro_batch_size=2,
                global_batch_size=2,
                text_length=8,
                controls=controls,
            ),
            WorldTrainer(
                max_steps=steps,
                strategy=WorldStrategy(),
                log_every_n_steps=1,
                callbacks=callbacks,
                **options,
            ),
            RunLogger(log_dir=str(folder), name="run", ckpt=StepCheckpoint(every_n_train_steps=2)),
            RunResume(restore_config=nl.RestoreConfig(path=str(start))),
            nl.MegatronOptimizerModule(
                config=OptimizerConfig(lr=lr, use_distributed_optimizer=True, clip_grad=1.0)
            ),
            what,
        )

    return run


@pytest.fixture(scope="session")
def tuned(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with a control that the base lacks."""
    return train(tmp_path_factory.mktemp("tuned"), 4, controls=("action",))
