"""What a Python user gets for a value of another type: one sentence of ours, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemo_cosmos import api
from nemo_cosmos.data.modules import LatentDataModule, VideoDataModule
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.errors import InputError
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.matching import check_belonging
from nemo_cosmos.training.session import TrainingSession
from nemo_cosmos.training.trainer import WorldTrainer
from recipes.registry import get_recipe

FRAMES = np.zeros((2, 32, 32, 3), np.uint8)
Network = partial(DiTConfig, num_layers=2, hidden_size=48, num_attention_heads=2)


def train(**parts: Any) -> object:
    """Train with parts of which some are wrong."""
    usual = {
        "model": DiffusionModel(Network()),
        "data": LatentDataModule("nowhere"),
        "trainer": WorldTrainer(max_steps=1),
    }
    return api.pretrain(**{**usual, **parts})


def plan(gpus: Any = 1, **options: Any) -> object:
    return api.plan(get_recipe("diffusion_nano_text2world"), gpus, **options)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "world": (lambda: api.generate(3, "x"), "path or URL"),
    "no world": (lambda: api.generate(None, "x"), "path or URL"),
    "gpus": (lambda: plan("8"), "whole number"),
    "memory": (lambda: plan(gpu_memory_gb="80"), "gpu_memory_gb is '80'"),
    "gpu": (lambda: plan(gpu=3), "no GPU '3'"),
    "recipe": (lambda: api.plan("7b", 1), "get_recipe"),
    "window": (lambda: TokenizeConfig(window_frames=17.5), "whole number"),
    "size": (lambda: TokenizeConfig(size=48), r"\(height, width\)"),
    "side": (lambda: VideoDataModule("x", size=("48", 64)), "size is '48'"),
    "frames": (lambda: VideoDataModule("x", num_frames="17"), "num_frames"),
    "batch": (lambda: LatentDataModule("x", micro_batch_size="4"), "micro_batch_size is '4'"),
    "half a sample": (lambda: LatentDataModule("x", global_batch_size=1.5), "whole number"),
    "text": (lambda: LatentDataModule("x", text_length=0), "text_length is 0"),
    "folder": (lambda: LatentDataModule(3), "path or URL"),
    "ratio": (lambda: LatentDataModule("x", image_ratio="x"), "image_ratio"),
    "controls": (lambda: LatentDataModule("x", controls="action"), "list of names"),
    "layers": (lambda: Network(num_layers="4"), "num_layers is '4'"),
    "heads": (lambda: Network(num_attention_heads=0), "num_attention_heads=0"),
    "patch": (lambda: Network(patch_spatial=0), "patch_spatial=0"),
    "rope": (lambda: Network(rope_ratios_thw=3), "three numbers"),
    "rate": (lambda: Network(base_fps=0), "base_fps is 0"),
    "network": (lambda: DiffusionModel("7b"), "DiTConfig"),
    "process": (lambda: DiffusionModel(Network(), process="x"), "DiffusionConfig"),
    "steps": (lambda: WorldTrainer(max_steps=2.5), "max_steps is 2.5"),
    "devices": (lambda: WorldTrainer(devices="2"), "devices is '2'"),
    "no devices": (lambda: WorldTrainer(devices=0), "devices is 0"),
    "machines": (lambda: WorldTrainer(num_nodes=0), "num_nodes is 0"),
    "strategy": (lambda: WorldTrainer(strategy="ddp"), "WorldStrategy"),
    "callbacks": (lambda: WorldTrainer(callbacks=3), "callbacks is 3"),
    "saves": (lambda: StepCheckpoint(every_n_train_steps=-1), "every_n_train_steps is -1"),
    "interval": (lambda: StepCheckpoint(train_time_interval_s="3"), "a number"),
    "model": (lambda: train(model="7b"), "LightningModule"),
    "data": (lambda: train(data="latents"), "LatentDataModule"),
    "trainer": (lambda: train(trainer=None), "WorldTrainer"),
    "log": (lambda: train(log="out"), "RunLogger"),
    "resume": (lambda: train(resume="world"), "RunResume"),
    "optim": (lambda: train(optim=1e-3), "MegatronOptimizerModule"),
    "weights": (lambda: api.finetune(None, None, None, resume="w"), "RunResume"),
    "session": (lambda: TrainingSession.start(None, None, None), "LightningModule"),
    "allowed": (lambda: check_belonging(None, (), None, "tokenizer"), r"\['tokenizer'\]"),
    "source": (lambda: api.import_ckpt(None, "x"), "source is None"),
    "videos": (lambda: api.evaluate("a", "b"), "array of uint8"),
    "sources": (lambda: api.curate(3, "/tmp/none"), "path or URL"),
    "shards": (lambda: api.tokenize(3, "out", "tok"), "shards is 3"),
    "latents": (lambda: api.tokenize("a", None, "tok"), "out is None"),
    "encoder": (lambda: api.tokenize("a", "out", "tok", text_encoder=3), "text_encoder is 3"),
    "no length": (lambda: api.tokenize("a", "out", "tok", text_length=0), "text_length is 0"),
    "windows": (lambda: api.tokenize("a", "out", "tok", {}), "TokenizeConfig"),
    "target": (lambda: api.export_ckpt("a", None), "target is None"),
    "format": (lambda: api.export_ckpt("a", "b", 3), "format is 3"),
    "a list of GPUs": (lambda: plan(gpu=["h100"]), "no GPU"),
    "a size": (lambda: plan(video=3), r"\(frames, height, width\)"),
    "a word": (lambda: plan(video="abc"), r"\(frames, height, width\)"),
    "chunks": (lambda: api.extend("w", "x", FRAMES, "2"), "num_chunks is '2'"),
    "begin": (lambda: api.predict("w", "x", FRAMES, begin=FRAMES), "begin is"),
    "control": (lambda: api.predict("w", "x", FRAMES, control=["a"]), "signals by name"),
    "metrics": (lambda: api.evaluate(FRAMES, FRAMES, 3), "list of names"),
    "one metric": (lambda: api.evaluate(FRAMES, FRAMES, "psnr"), r"\['psnr'\]"),
    "a number": (lambda: api.evaluate(FRAMES, FRAMES, [3]), "no metric '3'"),
    "settings": (lambda: api.curate("x", "/tmp/none", "x"), "CurateSettings"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_type_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call, words = WRONG[name]
    with pytest.raises(InputError, match=words):
        call()
    assert not list(tmp_path.iterdir())


def test_parts_that_are_right_are_taken() -> None:
    assert RunResume().allow_mismatch == ()
    Network(num_layers=np.int64(2))
    assert LatentDataModule(["a", Path("b")], image_ratio=0.5).text_length == 512
    assert VideoDataModule("x", num_frames=[17, 1], size=[[48, 64]]).sizes == ((48, 64),)
