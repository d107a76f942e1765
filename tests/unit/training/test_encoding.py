"""Codes made in the step are those that ``tokenize`` keeps, and the run exports a world."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nemo import lightning as nl

from nemo_cosmos.api import finetune, pretrain
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import CodesDataModule, VideoDataModule
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import ShardWriter
from nemo_cosmos.errors import ConfigError, SampleError, WrongFrameCountError
from nemo_cosmos.models.autoregressive.model import ARModel
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.testing.tiny import tiny_tokenizer
from nemo_cosmos.training.callbacks.encoding import EncodeVideo
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer
from nemo_cosmos.video import Video, encode_video

NUM_CODES = 75
SIZES: dict[str, Any] = {
    "num_layers": 1,
    "hidden_size": 24,
    "ffn_hidden_size": 32,
    "num_attention_heads": 2,
    "num_query_groups": 1,
    "vocab_size": NUM_CODES,
    "max_frames": 3,
    "max_height": 4,
    "max_width": 4,
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of the one length that is trained on, and their tokenizer."""
    folder = tmp_path_factory.mktemp("clips")
    tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=(5, 5, 3)).save(folder / "tokenizer")
    random = np.random.default_rng(0)
    with ShardWriter(folder / "shards") as writer:
        for number in range(2):
            frames = random.integers(0, 256, (9, 32, 32, 3), np.uint8)
            encode_video(folder / "clip.mp4", Video(frames, fps=8.0))
            record = ClipRecord(
                key=f"clip-{number}", source="film.mp4", span_s=(0.0, 9 / 8), fps=8.0,
                num_frames=9, width=32, height=32, caption="it moves",
            )  # fmt: skip
            writer.add(record, {"mp4": (folder / "clip.mp4").read_bytes()})
    return folder


def clips(folder: Path, **changes: Any) -> VideoDataModule:
    settings = {"num_frames": 9, "size": (32, 32), "image_ratio": 0.0, **changes}
    return VideoDataModule(str(folder / "shards"), global_batch_size=2, **settings)


def test_a_run_on_clips_makes_their_codes_and_exports_a_world(shards: Path, tmp_path: Path) -> None:
    model = ARModel(ARConfig(**SIZES))
    run = pretrain(
        model,
        clips(shards),
        WorldTrainer(max_steps=1, callbacks=[EncodeVideo(str(shards / "tokenizer"))]),
        RunLogger(
            name="run",
            log_dir=str(tmp_path),
            tensorboard_enabled=False,
            ckpt=StepCheckpoint(every_n_train_steps=1),
        ),
    )
    world = load_world(run / "export")
    assert world.config.video == {"num_frames": 9, "fps": 8.0, "height": 32, "width": 32}
    assert world.tokenizer.config.num_codes == NUM_CODES

    other = tmp_path / "other"
    tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=(3, 5, 5)).save(other)
    start = RunResume(restore_config=nl.RestoreConfig(path=str(run / "export")))
    trainer = WorldTrainer(max_steps=1, callbacks=[EncodeVideo(str(other))])
    with pytest.raises(ConfigError, match="tokenizer"):
        log = RunLogger(name="other", log_dir=str(tmp_path), tensorboard_enabled=False)
        finetune(ARModel(ARConfig(**SIZES)), clips(shards), trainer, log, resume=start)

    video = next(iter(clips(shards).train_dataloader()))["video"]
    batch = model.data_step(iter([{"video": video, "fps": torch.tensor([8.0])}]))
    kept = world.tokenizer.encode(video.float() / 127.5 - 1)
    assert torch.equal(batch["codes"], kept.long())
    assert "video" not in batch


@pytest.mark.parametrize(
    ("named", "changes", "data", "error", "message"),
    [
        ("", {}, {}, ConfigError, "trainer.callbacks.EncodeVideo.tokenizer=FOLDER"),
        ("tokenizer", {"vocab_size": 60}, {}, ConfigError, "has 75 codes, but the model 60"),
        ("tokenizer", {"control_channels": 8}, {}, ConfigError, "attends to a text or a control"),
        ("tokenizer", {}, {"num_frames": 8}, WrongFrameCountError, "8"),
        ("tokenizer", {}, None, ConfigError, "VideoDataModule"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    shards: Path,
    named: str,
    changes: dict[str, int],
    data: dict[str, Any] | None,
    error: type[Exception],
    message: str,
) -> None:
    module = CodesDataModule("unused") if data is None else clips(shards, **data)
    place = str(shards / named) if named else ""
    with pytest.raises(error, match=message):
        trainer: Any = SimpleNamespace(datamodule=module)
        EncodeVideo(place).setup(trainer, ARModel(ARConfig(**{**SIZES, **changes})), "fit")


def test_a_control_of_any_kind_is_refused(shards: Path) -> None:
    """Also one that does not enter by cross-attention: changed windows would make it untrue."""
    model = ARModel(ARConfig(**SIZES), controls=[ControlSpec("action", {"embodiment": "bridge_7"})])
    assert not model.config.cross_channels
    trainer: Any = SimpleNamespace(datamodule=clips(shards))
    with pytest.raises(ConfigError, match=r"a control, which clips of pixels come without"):
        EncodeVideo(str(shards / "tokenizer")).setup(trainer, model, "fit")


def test_pixels_without_a_tokenizer_are_refused() -> None:
    pixels = {"video": torch.zeros(1, 3, 9, 32, 32, dtype=torch.uint8)}
    with pytest.raises(SampleError, match="EncodeVideo"):
        ARModel(ARConfig(**SIZES)).data_step(iter([pixels]))
