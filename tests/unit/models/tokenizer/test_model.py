"""TokenizerModel under NeMo's trainer: batches, losses, export."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from nemo import lightning as nl
from safetensors.torch import load_file

from nemo_cosmos import api
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    NumericsError,
    WrongFrameCountError,
    WrongSizeError,
)
from nemo_cosmos.models.tokenizer.losses import LossConfig, LossSchedule
from nemo_cosmos.models.tokenizer.model import TokenizerModel, batch_video, psnr_db
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer

CPU = torch.device("cpu")


class Clips(pl.LightningDataModule):
    """Images and videos of noise in turn, as bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.data_sampler = nl.MegatronDataSampler(
            seq_len=1, micro_batch_size=1, global_batch_size=1
        )

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(0)
        clips = [
            torch.randint(256, (3, 5 if index % 2 else 1, 16, 16), generator=generator)
            for index in range(8)
        ]
        samples = [{"video": clip.to(torch.uint8)} for clip in clips]
        return torch.utils.data.DataLoader(samples, batch_size=1)

    def val_dataloader(self):
        return self.train_dataloader()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_config) -> Path:
    model = TokenizerModel(
        tiny_config("tokenizer_cv4x8x8"),
        losses=LossConfig(flow=LossSchedule((0.0, 0.1), (2,))),
        stats_batches=2,
    )
    trainer = WorldTrainer(
        max_steps=4, limit_val_batches=2, val_check_interval=4, log_every_n_steps=1
    )
    log = RunLogger(name="tokenizer", log_dir=str(tmp_path_factory.mktemp("run")))
    return api.pretrain(model, Clips(), trainer, log=log)


def test_training_logs_every_term_in_its_stage_and_psnr(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    steps = {line["step"]: line for line in lines if "loss" in line}
    for line in steps.values():
        assert line["loss"] == pytest.approx(
            line["loss/color"] + line.get("loss/flow", 0), abs=1e-5
        )
    assert "loss/flow" not in steps[2] and "loss/flow" in steps[4]
    assert any("val_psnr" in line and "val_loss" in line for line in lines)


def test_export_is_a_tokenizer_folder_with_statistics(trained):
    tokenizer = VideoTokenizer.from_folder(trained / "export")
    assert tokenizer.config.name == "tokenizer_cv4x8x8"
    assert tokenizer.stats is not None and tokenizer.stats.mean.shape == (16,)
    clips = [
        batch_video(batch, CPU)
        for batch in Clips().train_dataloader()
        if batch["video"].shape[2] > 1
    ]
    z = torch.cat([tokenizer.encode(clip) for clip in clips[:2]])
    torch.testing.assert_close(z.mean((0, 2, 3, 4)), torch.zeros(16), rtol=0, atol=1e-3)
    assert "encoder.conv_in.0.conv3d.weight" in load_file(trained / "export" / "model.safetensors")


def test_bytes_become_minus_one_to_one():
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1, 1)
    assert batch_video({"video": frames}, CPU).flatten().tolist() == [-1.0, 1.0]
    floats = torch.tensor([0.5], dtype=torch.float64)
    assert batch_video({"video": floats}, CPU).dtype == torch.float32


def test_bad_batches_are_refused(tiny_config):
    model = TokenizerModel(tiny_config("tokenizer_cv4x8x8"))
    clip = torch.zeros(1, 3, 5, 16, 16)
    for batch, error, message in (
        ({"latent": clip}, InputError, "yields pixels, not latents"),
        ({"video": clip * torch.nan}, NumericsError, "NaN or infinity"),
        ({"video": clip[:, :, :4]}, WrongFrameCountError, "1 or 5"),
        ({"video": clip[..., :12]}, WrongSizeError, "multiples of 8"),
    ):
        with pytest.raises(error, match=message):
            model.data_step(iter([(batch, 0, 0)]))
    fetched = model.data_step(iter([{"video": clip, "key": ["a"]}]))
    assert fetched["key"] == ["a"] and torch.equal(fetched["video"], clip)


@pytest.mark.parametrize("kind", ["tensor_model", "pipeline_model", "context"])
def test_other_than_data_parallelism_is_refused(kind, tiny_config, monkeypatch):
    from megatron.core import parallel_state

    for name in ("tensor_model", "pipeline_model", "context"):
        size = 2 if name == kind else 1
        function = f"get_{name}_parallel_world_size"
        monkeypatch.setattr(parallel_state, function, lambda size=size: size)
    with pytest.raises(ConfigError, match=f"{kind}_parallel_size=2"):
        TokenizerModel(tiny_config("tokenizer_cv4x8x8")).configure_model()


def test_psnr_in_decibels():
    target = torch.zeros(2, 3, 1, 4, 4)
    assert psnr_db(target + 0.2, target).item() == pytest.approx(20.0, abs=1e-4)
    assert psnr_db(target, target).item() < 200
