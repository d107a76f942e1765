"""One run that changes its parallel layout at every stop is where an undisturbed one is.

Weights, their average, the optimiser's moments, the place in the data and the randomness of each
step go through Megatron's distributed checkpoint from layout to layout. After every leg, each of
its tensors is compared with that of one process at the same step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from nemo_cosmos.checkpoint.convert import import_checkpoint
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.testing.checkpoints import check_close, saved_tensors, stored_tensors
from nemo_cosmos.testing.processes import run_distributed_test
from nemo_cosmos.testing.tiny import Clips, write_latents
from nemo_cosmos.training.run_folder import list_checkpoints

pytestmark = pytest.mark.slow

NAME = "diffusion_nano_text2world"
BATCH_SIZE = 4
PP2: dict[str, int | str] = {"pipeline_model_parallel_size": 2}
FSDP2: dict[str, int | str] = {"fsdp": "megatron"}
LEGS: dict[str, dict[str, int | str]] = {
    "PP2": PP2,
    "PP2 with virtual stages": {**PP2, "virtual_pipeline_model_parallel_size": 2},
    "TP2": {"tensor_model_parallel_size": 2},
    "CP2": {"context_parallel_size": 2},
    "DP2": {},
    "FSDP2": FSDP2,
}
"""Layouts of two processes; each trains for a step."""
NUM_STEPS = 1 + len(LEGS)
TIMEOUT_S = 300.0
NUM_SAMPLES = NUM_STEPS * BATCH_SIZE


def write_data(folder: Path, size: int = 32) -> None:
    width = DIFFUSION[NAME].network["crossattn_emb_channels"]
    clips = Clips(num_samples=NUM_SAMPLES, height=size, width=size, text_dim=width)
    write_latents(folder, clips)


def train(
    folder: str, devices: int, layout: dict[str, int | str], stop: int, precision: str = "32"
) -> int:
    """One leg: go on until step ``stop``, and save there."""
    import fiddle as fdl
    import lightning.pytorch as pl

    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    from nemo_cosmos.training.callbacks.signals import StoppedError
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
        f"trainer.precision={precision}",
        # One process is what the others are compared with; these save where they stop.
        f"log.ckpt.every_n_train_steps={1 if devices == 1 else NUM_STEPS}",
        f"log.ckpt.keep={NUM_STEPS}",
        "log.ckpt.train_time_interval_s=None",
        "model.config.num_layers=4",
        "trainer.callbacks.SampleVideos.every_n_steps=0",
        *(f"trainer.strategy.{name}={value}" for name, value in layout.items()),
    ]
    recipe = fdl.build(apply_overrides(get_recipe(NAME, False), words))
    trainer = recipe.keywords["trainer"]
    trainer.callbacks.append(StopAt())
    with contextlib.suppress(StoppedError):
        recipe()
    return int(trainer.global_step)


def checkpoint(run: Path, step: int) -> Path:
    return run / NAME / "checkpoints" / f"step={step:06d}"


def test_every_layout_goes_on_from_the_one_before(two_processes, tmp_path):
    write_data(tmp_path / "data")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_distributed_test(
        train, 1, str(whole), 1, {}, NUM_STEPS, preload=["recipes.diffusion"], timeout_s=TIMEOUT_S
    )
    shutil.copytree(checkpoint(whole, 1), checkpoint(parts, 1))
    for stop, (leg, layout) in enumerate(LEGS.items(), start=2):
        steps = two_processes.run(train, str(parts), 2, layout, stop, timeout_s=TIMEOUT_S)
        assert set(steps) == {stop}, leg
        assert list_checkpoints(parts / NAME)[-1][1] == stop
        found, wanted = (saved_tensors(checkpoint(one, stop)) for one in (parts, whole))
        check_close(found, wanted, leg)
    exported = stored_tensors(parts / NAME / "export" / "model.safetensors")
    check_close(exported, stored_tensors(whole / NAME / "export" / "model.safetensors"), "export")
    world = import_checkpoint(checkpoint(parts, NUM_STEPS), tmp_path / "again")
    again = stored_tensors(world / "model.safetensors")
    assert all(torch.equal(again[name], exported[name]) for name in exported), "the average"


@pytest.mark.parametrize(
    ("layout", "precision"), [(PP2, "32"), (FSDP2, "bf16-mixed")], ids=["PP2", "FSDP2"]
)
def test_goes_on_exactly(layout, precision, two_processes, tmp_path):
    write_data(tmp_path / "data")
    for run, stops in (("whole", [3]), ("parts", [1, 3])):
        for stop in stops:
            two_processes.run(
                train, str(tmp_path / run), 2, layout, stop, precision, timeout_s=TIMEOUT_S
            )
    whole, parts = (saved_tensors(checkpoint(tmp_path / name, 3)) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
