"""Adapters through checkpoints of several ranks: resumed exactly, and in every other layout.

A run changes its layout at every stop. After each leg, its checkpoint is compared with that of one
process at the same step; after the last, the adapter alone and the merged world, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nemo_cosmos.checkpoint.adapters.merged import Weighted, merge_adapters
from nemo_cosmos.testing.checkpoints import check_close, saved_tensors, stored_tensors
from nemo_cosmos.testing.processes import ProcessPool
from nemo_cosmos.testing.tiny import (
    AR_CODES,
    Clips,
    tiny_ar_network,
    tiny_network,
    write_ar_world,
    write_latents,
    write_world,
)

pytestmark = pytest.mark.slow

PP2: dict[str, object] = {"pipeline_model_parallel_size": 2}
TP2: dict[str, object] = {"tensor_model_parallel_size": 2}
FSDP2: dict[str, object] = {"fsdp": "megatron"}
LEGS: dict[str, dict[str, dict[str, object]]] = {
    "diffusion": {"PP2": PP2, "TP2": TP2, "FSDP2": FSDP2},
    "autoregressive": {"TP2": TP2},
}
"""Layouts of two processes by family; each trains for a step, after a first of one process."""


def train(folder: str, family: str, layout: dict[str, object], stop: int) -> None:
    """One leg: go on until step ``stop``, save there and export."""
    from megatron.core.optimizer import OptimizerConfig
    from nemo import lightning as nl

    from nemo_cosmos import api
    from nemo_cosmos.checkpoint.world.config import read_config
    from nemo_cosmos.controls import ControlSpec
    from nemo_cosmos.data.modules import CodesDataModule, LatentDataModule
    from nemo_cosmos.models.autoregressive.model import ARModel
    from nemo_cosmos.models.diffusion.controls import TokenizerFacts
    from nemo_cosmos.models.diffusion.model import DiffusionModel
    from nemo_cosmos.training.adapters.lora import LoRA
    from nemo_cosmos.training.checkpointing.resume import RunResume
    from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
    from nemo_cosmos.training.logger import RunLogger
    from nemo_cosmos.training.strategy import WorldStrategy
    from nemo_cosmos.training.trainer import WorldTrainer

    world = Path(folder).parent / "base"
    data = {
        "path": str(world.parent / "data"),
        "micro_batch_size": 1,
        "global_batch_size": 2,
        "text_length": 8,
    }
    if family == "diffusion":
        model = DiffusionModel(
            tiny_network(),
            read_config(world).model.process,  # type: ignore[attr-defined]
            controls=[ControlSpec("action")],
            tokenizer=TokenizerFacts(temporal_factor=4, spatial_factor=8),
            preset="tiny",
        )
        module = LatentDataModule(controls=("action",), **data)
    else:
        model, module = ARModel(tiny_ar_network(), preset="tiny"), CodesDataModule(**data)
    adam = OptimizerConfig(lr=1e-2, use_distributed_optimizer=True, clip_grad=1.0)
    api.finetune(
        model,
        module,
        WorldTrainer(
            max_steps=stop,
            devices=2 if layout else 1,
            strategy=WorldStrategy(**layout),
            log_every_n_steps=1,
        ),
        RunLogger(log_dir=folder, name="run", ckpt=StepCheckpoint(every_n_train_steps=1, keep=9)),
        RunResume(restore_config=nl.RestoreConfig(path=str(world))),
        nl.MegatronOptimizerModule(config=adam),
        LoRA(dim=3, alpha=6),  # a rank that no number of processes divides
    )


@pytest.fixture(scope="module")
def one_process() -> Iterator[ProcessPool]:
    preload = ("nemo_cosmos.models.diffusion.model", "nemo_cosmos.training.trainer")
    with ProcessPool(1, preload=preload) as pool:
        yield pool


def write_start(folder: Path, family: str) -> None:
    """The base, and what an adapter of it is trained on."""
    if family == "diffusion":
        base, clips = write_world(folder / "base"), Clips(with_actions=True)
    else:
        base, clips = write_ar_world(folder / "base"), Clips(num_codes=AR_CODES)
    write_latents(folder / "data", clips, tokenizer=base / "tokenizer")


def checkpoint(run: Path, step: int) -> Path:
    return run / "run" / "checkpoints" / f"step={step:06d}"


@pytest.mark.parametrize("family", LEGS)
def test_adapters_go_on_in_every_layout(
    family: str, two_processes: ProcessPool, one_process: ProcessPool, tmp_path: Path
) -> None:
    legs = LEGS[family]
    write_start(tmp_path, family)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    one_process.run(train, str(whole), family, {}, 1 + len(legs))
    shutil.copytree(checkpoint(whole, 1), checkpoint(parts, 1))
    for stop, (leg, layout) in enumerate(legs.items(), start=2):
        two_processes.run(train, str(parts), family, layout, stop)
        found = saved_tensors(checkpoint(parts, stop))
        assert any(".adapter.lora_b" in name for name in found)
        check_close(found, saved_tensors(checkpoint(whole, stop)), leg)
    for file in ("adapter/adapter_model.safetensors", "export/model.safetensors"):
        one, other = (stored_tensors(place / "run" / file) for place in (parts, whole))
        check_close(one, other, file)
    merged = merge_adapters(tmp_path / "base", [Weighted(parts / "run")])
    exported = stored_tensors(parts / "run" / "export" / "model.safetensors")
    assert all(torch.equal(merged.source.read(name), exported[name]) for name in exported)


def test_a_resumed_run_of_two_ranks_is_bit_identical(
    two_processes: ProcessPool, tmp_path: Path
) -> None:
    write_start(tmp_path, "diffusion")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    two_processes.run(train, str(whole), "diffusion", FSDP2, 3)
    shutil.copytree(checkpoint(whole, 1), checkpoint(parts, 1))
    two_processes.run(train, str(parts), "diffusion", FSDP2, 3)
    found, wanted = (saved_tensors(checkpoint(one, 3)) for one in (parts, whole))
    assert found.keys() == wanted.keys()
    assert [name for name, value in wanted.items() if not torch.equal(found[name], value)] == []
