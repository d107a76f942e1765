"""The NeMo model under NeMo's own trainer, at the smallest size."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl
from nemo.lightning.data import WrappedDataLoader

from nemo_cosmos.api import finetune, pretrain
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import ShardWriter
from nemo_cosmos.errors import ConfigError, NumericsError, SampleError
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig, ViewConditioning
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.training.lifecycle import fresh_globals
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer
from nemo_cosmos.training.weights.export import export_model

VIDEO, IMAGE = (2, 16, 3, 4, 4), (2, 16, 1, 4, 4)
TEXT_DIM = 12


def tiny_config(condition_mask: bool = True) -> DiTConfig:
    return DiTConfig(
        num_layers=2,
        hidden_size=48,
        num_attention_heads=2,
        crossattn_emb_channels=TEXT_DIM,
        adaln_lora_dim=8,
        max_frames=4,
        max_height=8,
        max_width=8,
        condition_mask=condition_mask,
        layer_spec="local",
    )


def make_batch(shape: tuple[int, ...], index: int, *, keys: bool = True) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(index)
    size = shape[0]
    batch: dict[str, Any] = {
        "latent": torch.randn(shape, generator=generator),
        "t5_text_embeddings": torch.randn(size, 5, TEXT_DIM, generator=generator),
        "fps": torch.full((size,), 10.0),
        "padding_mask": torch.zeros(size, 1, 32, 32),
        "action": torch.randn(size, 4 * (shape[2] - 1), 7, generator=generator),
    }
    if keys:
        batch["key"] = [f"clip-{index}-{row}" for row in range(size)]
    return batch


class Batches(pl.LightningDataModule):
    """A fixed list of ready-made batches."""

    def __init__(self, batches: list[dict[str, Any]], micro_batches_per_step: int = 1) -> None:
        super().__init__()
        self.batches = batches
        size = batches[0]["latent"].shape[0]
        self.data_sampler = nl.MegatronDataSampler(
            seq_len=1, micro_batch_size=size, global_batch_size=size * micro_batches_per_step
        )

    def train_dataloader(self) -> Any:
        # Names of views would be mixed over samples by torch's own way to make a batch.
        make = cameras_of if "views" in self.batches[0] else None
        return torch.utils.data.DataLoader(Rows(self.batches), collate_fn=make)

    def val_dataloader(self) -> Any:
        return WrappedDataLoader(mode="validation", dataset=Rows(self.batches[:2]))


def cameras_of(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of samples with views."""
    views = [sample.pop("views") for sample in samples]
    return {**torch.utils.data.default_collate(samples), "views": views}


class Rows(torch.utils.data.Dataset):
    """The samples of ready-made batches, one after the other."""

    def __init__(self, batches: list[dict[str, Any]]) -> None:
        self.rows = [
            {name: value[row] for name, value in batch.items()}
            for batch in batches
            for row in range(batch["latent"].shape[0])
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


class Losses(pl.Callback):
    """Remembers what the trainer logs."""

    def __init__(self) -> None:
        self.train: list[float] = []
        self.validation: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self.train.append(float(trainer.callback_metrics["reduced_train_loss"]))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.validation.append(float(trainer.callback_metrics["val_loss"]))


def fit(
    model: DiffusionModel,
    batches: list[dict[str, Any]],
    folder: Path,
    *,
    validate: bool = False,
    micro_batches_per_step: int = 1,
) -> Losses:
    losses = Losses()
    with fresh_globals():
        trainer = WorldTrainer(
            max_steps=len(batches) // micro_batches_per_step,
            strategy=WorldStrategy(seed=7),
            limit_val_batches=2 if validate else 0,
            val_check_interval=2 if validate else None,
            log_every_n_steps=1,
            callbacks=[losses],
            default_root_dir=str(folder),
        )
        trainer.fit(model, datamodule=Batches(batches, micro_batches_per_step))
    return losses


def optimiser(lr: float) -> nl.MegatronOptimizerModule:
    return nl.MegatronOptimizerModule(
        config=OptimizerConfig(
            optimizer="adam", lr=lr, use_distributed_optimizer=True, weight_decay=0.0
        )
    )


def test_trains_on_mixed_videos_and_images_with_control_and_learned_variance(
    tmp_path: Path,
) -> None:
    process = DiffusionConfig(
        edm=EDMConfig(learned_variance=True),
        conditioning=ConditioningConfig(max_condition_latents=2),
    )
    model = DiffusionModel(
        tiny_config(),
        process,
        optim=optimiser(3e-3),
        controls=[ControlSpec("action")],
        tokenizer=TokenizerFacts(temporal_factor=4),
    )
    batches = [make_batch(IMAGE if i % 4 == 3 else VIDEO, i % 4) for i in range(24)]
    losses = fit(model, batches, tmp_path).train
    assert len(losses) == 24
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    network = model.network()
    assert network.controls["action"].timestep[-1].weight.abs().max() > 0, "the control is trained"
    assert network.logvar.weight.abs().max() > 0, "the variance is trained"


def test_same_seed_same_losses_and_validation_repeats_its_noise(tmp_path: Path) -> None:
    batches = [make_batch(VIDEO, i, keys=False) for i in range(4)]

    def run() -> Losses:
        return fit(
            DiffusionModel(tiny_config(), optim=optimiser(0.0)), batches, tmp_path, validate=True
        )

    first, second = run(), run()
    assert first.train == second.train
    assert len(set(first.train)) == 4
    assert first.validation[0] == first.validation[1], "nothing was learned, so nothing changes"


def test_gradient_accumulation_averages_micro_batches(tmp_path: Path) -> None:
    batches = [make_batch(VIDEO, i) for i in range(2)]
    whole: dict[str, Any] = {
        name: torch.cat([batch[name] for batch in batches]) for name in batches[0] if name != "key"
    }
    whole["key"] = [key for batch in batches for key in batch["key"]]
    apart = fit(DiffusionModel(tiny_config()), batches, tmp_path, micro_batches_per_step=2).train
    together = fit(DiffusionModel(tiny_config()), [whole], tmp_path).train
    assert apart == pytest.approx(together, rel=1e-5)


def test_nan_latents_stop_training_and_name_the_sample(tmp_path: Path) -> None:
    batch = make_batch(VIDEO, 0)
    batch["latent"][1, 0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericsError, match="clip-0-1"):
        fit(DiffusionModel(tiny_config()), [batch], tmp_path)


def test_batch_without_embeddings(tmp_path: Path) -> None:
    batch = make_batch(VIDEO, 0)
    del batch["t5_text_embeddings"]
    with pytest.raises(SampleError, match="t5_text_embeddings"):
        fit(DiffusionModel(tiny_config()), [batch], tmp_path)


def test_fused_gradients_without_their_kernels_are_refused_before_training(tmp_path: Path) -> None:
    config = tiny_config()
    config.gradient_accumulation_fusion = True
    with pytest.raises(ConfigError, match="gradient_accumulation_fusion"):
        fit(DiffusionModel(config), [make_batch(VIDEO, 0)], tmp_path)


def test_network_and_process_must_fit(tmp_path: Path) -> None:
    model = DiffusionModel(
        tiny_config(condition_mask=False),
        DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=1)),
    )
    with pytest.raises(ConfigError, match="condition_mask=False"):
        fit(model, [make_batch(VIDEO, 0)], tmp_path)


def test_text2world_takes_no_frames() -> None:
    assert not DiffusionModel(tiny_config(condition_mask=False)).process.conditioning.takes_frames
    assert DiffusionModel(tiny_config()).process.conditioning.max_condition_latents == 2


def write_data(folder: Path, tokenizer: Path) -> None:
    """Two tokenised clips with actions, as ``nemo-cosmos tokenize`` writes them."""
    actions = io.BytesIO()
    np.save(actions, np.random.default_rng(0).normal(size=(8, 7)).astype(np.float32))
    with ShardWriter(folder) as writer:
        for number in range(2):
            torch.manual_seed(number)
            record = ClipRecord(
                key=f"clip-{number}",
                source="episode.mp4",
                span_s=(0.0, 0.9),
                fps=10.0,
                num_frames=9,
                width=32,
                height=32,
                caption="the arm moves",
            )
            files = {
                "latent.safetensors": pack_latent(torch.randn(16, 3, 4, 4)),
                "t5.safetensors": pack_embedding(torch.randn(3, TEXT_DIM)),
                "action.npy": actions.getvalue(),
            }
            writer.add(record, files)
    dataset = {
        "tokenizer": str(tokenizer),
        "text_encoder": {"kind": "words", "path": None, "max_length": 5, "dim": TEXT_DIM},
        "window": {"window_frames": 9, "size": [32, 32]},
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))


def run_arguments(tmp_path: Path, name: str, controls: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "data": LatentDataModule(
            str(tmp_path / "data"),
            micro_batch_size=2,
            global_batch_size=2,
            text_length=5,
            controls=controls,
        ),
        "trainer": WorldTrainer(max_steps=3, log_every_n_steps=1),
        "log": RunLogger(name=name, log_dir=str(tmp_path / "runs"), tensorboard_enabled=False),
    }


def test_pretrain_then_post_train_with_actions_then_load_without_nemo(tmp_path: Path) -> None:
    config = replace(TOKENIZERS["tokenizer_nano_cv4x8x8"], channels=8)
    VideoTokenizer(TokenizerNetwork(config)).save(tmp_path / "tok")
    write_data(tmp_path / "data", tmp_path / "tok")

    base = DiffusionModel(tiny_config(), optim=optimiser(1e-3), preset="tiny")
    pretrained = pretrain(base, **run_arguments(tmp_path, "base")) / "export"
    control = ControlSpec("action", {"mean": [0.1] * 7})
    robot = DiffusionModel(
        tiny_config(),
        optim=optimiser(1e-3),
        controls=[control],
        tokenizer=TokenizerFacts(temporal_factor=4),
    )
    resume = nl.AutoResume(restore_config=nl.RestoreConfig(path=str(pretrained)))
    arguments = run_arguments(tmp_path, "robot", controls=("action",))
    trained = finetune(robot, resume=resume, **arguments) / "export"

    before, after = load_world(pretrained), load_world(trained)
    assert before.config.preset == "tiny" and not before.net.controls
    assert after.config.controls == (control,)
    assert after.net.controls["action"].mean.tolist() == pytest.approx([0.1] * 7)
    assert after.config.video == {"num_frames": 9, "fps": 10.0, "height": 32, "width": 32}
    weights = [world.net.blocks.state_dict() for world in (before, after)]
    moved = max(
        (weights[0][name] - weights[1][name]).abs().max().item()
        for name in weights[0]
        if torch.is_tensor(weights[0][name])
    )
    assert 0 < moved < 0.05, "post-training went on from the pre-trained weights"


def test_trains_on_any_number_of_views_from_the_weights_of_one_camera(tmp_path: Path) -> None:
    """Samples of one, two and three cameras; names, rigs, given views and texts of each view."""
    slots = ("front", "left", "right")
    process = DiffusionConfig(
        conditioning=ConditioningConfig(max_condition_latents=1),
        views=ViewConditioning(max_given=2, name_dropout=0.3),
    )
    model = DiffusionModel(replace(tiny_config(), view_slots=slots), process, optim=optimiser(3e-3))
    batches = []
    for index in range(24):
        num_views = 1 + index % 3
        batch = make_batch((2, 16, 3 * num_views, 4, 4), index % 6)
        batch["views"] = [slots[:num_views]] * 2
        batch["rig_poses"] = torch.eye(4).repeat(2, num_views, 1, 1)
        batch["rig_intrinsics"] = torch.eye(3).repeat(2, num_views, 1, 1)
        batch["rig_size"] = torch.full((2, num_views, 2), 2.0)
        if index % 2 and num_views > 1:
            text = batch["t5_text_embeddings"]
            batch["t5_text_embeddings"] = text[:, None].repeat(1, num_views, 1, 1)
        batches.append(batch)
    losses = fit(model, batches, tmp_path).train
    assert sum(losses[-8:]) < 0.95 * sum(losses[:8])
    embed = model.network().view_embed
    assert embed.names.abs().amax(dim=1).min() > 0, "all rows are trained, the free one, too"
    assert embed.rig_2.weight.abs().max() > 0


def test_several_views_need_a_network_that_takes_them(tmp_path: Path) -> None:
    batch = {**make_batch((2, 16, 4, 4, 4), 0), "views": [("front", "left")] * 2}
    with pytest.raises(ConfigError, match="built for one camera"):
        fit(DiffusionModel(tiny_config()), [batch], tmp_path)


def test_export_needs_to_know_the_tokenizer(tmp_path: Path) -> None:
    model = DiffusionModel(tiny_config())
    batches = [make_batch(VIDEO, 0)]
    fit(model, batches, tmp_path)
    ensure_model_parallel()
    with pytest.raises(ConfigError, match="world=WorldInfo"):
        export_model(tmp_path / "export", model, model.trainer, Batches(batches))


def test_operations_and_tokens_of_a_batch() -> None:
    model = DiffusionModel(tiny_config())
    flops, tokens = model.flops_and_tokens(make_batch(VIDEO, 0))
    assert tokens == 2 * 3 * 2 * 2 and flops > 0


def test_operations_and_tokens_of_a_batch_of_views() -> None:
    """All tokens attend to all; texts of each view are projected for each."""
    model = DiffusionModel(replace(tiny_config(), view_slots=("front",)))
    batch = {**make_batch((2, 16, 6, 4, 4), 0), "views": [("front", "left")] * 2}
    shared, tokens = model.flops_and_tokens(batch)
    assert tokens == 2 * 6 * 2 * 2
    text = batch["t5_text_embeddings"]
    batch["t5_text_embeddings"] = text[:, None].repeat(1, 2, 1, 1)
    by_view, _ = model.flops_and_tokens(batch)
    assert by_view - shared == 3 * 2 * 2 * 4 * 5 * TEXT_DIM * 48  # training, samples, layers
