"""Packs of samples of different shapes give the losses and gradients of the samples alone."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from nemo_cosmos.batch import DataSpec
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.order.packing import PackConfig, collate_pack
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import ShardWriter
from nemo_cosmos.errors import ConfigError, NumericsError
from nemo_cosmos.models.common.packed import Packing
from nemo_cosmos.models.diffusion.build import build_network
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.packs import split_pack
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.diffusion.process.training_step import (
    check_batch,
    prepare_step,
)
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.training.lifecycle import fresh_globals
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer

TEXT = 12
# (T, H, W): two videos of different size and aspect, an image, a longer video
SHAPES = ((3, 4, 6), (2, 6, 4), (1, 8, 4), (4, 4, 4))
FPS = (10.0, 24.0, 30.0, 16.0)
VIDEO2WORLD = DiffusionConfig(
    edm=EDMConfig(learned_variance=True, adjust_video_noise=True),
    conditioning=ConditioningConfig(max_condition_latents=2, text_dropout=0.3),
)


@pytest.fixture(scope="module", autouse=True)
def _model_parallel() -> None:
    ensure_model_parallel()


def make_config(**overrides: Any) -> DiTConfig:
    values: dict[str, Any] = {
        "num_layers": 2,
        "hidden_size": 48,
        "num_attention_heads": 2,
        "crossattn_emb_channels": TEXT,
        "adaln_lora_dim": 8,
        "max_frames": 4,
        "max_height": 8,
        "max_width": 8,
        "condition_mask": True,
        "layer_spec": "local",
    }
    return DiTConfig(**{**values, **overrides})


def make_camera(shape: tuple[int, int, int], generator: torch.Generator) -> dict[str, Any]:
    """A camera that goes about, for latents of a shape."""
    num_frames = 1 + 4 * (shape[0] - 1)
    poses = torch.eye(4).repeat(num_frames, 1, 1)
    poses[:, :3, 3] = torch.randn(num_frames, 3, generator=generator)
    height, width = 8.0 * shape[1], 8.0 * shape[2]
    lens = torch.tensor([[40.0, 0, width / 2], [0, 40, height / 2], [0, 0, 1]])
    return {
        "camera_poses": poses,
        "camera_intrinsics": lens.repeat(num_frames, 1, 1),
        "camera_size": torch.tensor([height, width]),
    }


def make_pack() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    samples = []
    for index, (shape, fps) in enumerate(zip(SHAPES, FPS, strict=True)):
        mask = torch.zeros(1, shape[1] * 8, shape[2] * 8)
        mask[:, -8 * (index % 2) :] = index % 2
        samples.append(
            {
                "key": f"sample-{index}",
                "latent": torch.randn(16, *shape, generator=generator),
                "t5_text_embeddings": torch.randn(5, TEXT, generator=generator),
                "fps": torch.tensor(fps),
                "padding_mask": mask,
                "action": torch.randn(4 * (shape[0] - 1), 7, generator=generator),
                **make_camera(shape, generator),
            }
        )
    return collate_pack(samples)


def losses_and_gradients(net: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
    net.zero_grad(set_to_none=True)
    step = prepare_step(batch, batch["key"], 1, 5, VIDEO2WORLD, net.embed_controls)
    loss_B = step.loss(net(step.inputs), net.logvar(step.c_noise_B))
    loss_B.sum().backward()
    return loss_B.detach(), {name: p.grad for name, p in net.named_parameters()}


@pytest.mark.parametrize("controls", [(), (ControlSpec("action"),), (ControlSpec("camera"),)])
@pytest.mark.parametrize(
    "recompute",
    [
        {},
        {
            "recompute_granularity": "full",
            "recompute_method": "uniform",
            "recompute_num_layers": 1,
        },
    ],
    ids=["kept", "recomputed"],
)
def test_packed_losses_and_gradients_are_those_of_the_samples_alone(
    controls: tuple[ControlSpec, ...], recompute: dict[str, Any]
) -> None:
    """Video2World conditions, images among videos and, with the control, a level for each frame."""
    torch.manual_seed(0)
    net = build_network(
        make_config(**recompute), VIDEO2WORLD, controls, TokenizerFacts(temporal_factor=4)
    ).train()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    pack = make_pack()
    packed_loss_B, packed = losses_and_gradients(net, pack)
    alone = [losses_and_gradients(net, sample) for sample in split_pack(pack)]
    torch.testing.assert_close(
        packed_loss_B, torch.cat([loss for loss, _ in alone]), atol=1e-5, rtol=1e-5
    )
    assert packed_loss_B.unique().numel() == len(SHAPES)
    for name, gradient in packed.items():
        parts = [gradients[name] for _, gradients in alone]
        expected = sum(part for part in parts if part is not None)
        difference = (gradient - expected).norm()
        assert difference <= 1e-5 * expected.norm() + 1e-7, name


@torch.no_grad()
def test_padding_tokens_change_nothing() -> None:
    """Sequence parallelism pads a pack until its tokens divide."""
    torch.manual_seed(0)
    net = build_network(make_config(), VIDEO2WORLD)
    pack = make_pack()
    step = prepare_step(pack, pack["key"], 1, 5, VIDEO2WORLD)
    expected = net(step.inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(net.sequence, "num_padding", lambda num_tokens: 3)
        padded = net(step.inputs)
    for left, right in zip(padded, expected, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


def test_boundaries_are_what_variable_length_kernels_take() -> None:
    packing = Packing.of([4, 6], [5, 5], torch.device("cpu"), num_padding=2)
    assert packing.tokens.qkv_format == "thd"
    assert packing.tokens.cu_seqlens_q.tolist() == [0, 4, 10, 12]
    assert packing.tokens.cu_seqlens_kv.dtype == torch.int32
    assert packing.tokens.max_seqlen_q == 6
    assert packing.context.cu_seqlens_q.tolist() == [0, 4, 12]
    assert packing.context.cu_seqlens_kv.tolist() == [0, 5, 10]


def test_nan_in_a_pack_names_the_sample() -> None:
    pack = make_pack()
    pack["latent"][2][0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericsError, match="sample-2"):
        check_batch(pack)


def test_operations_of_a_pack_are_those_of_its_samples() -> None:
    model, pack = DiffusionModel(make_config()), make_pack()
    flops, tokens = model.flops_and_tokens(pack)
    assert tokens == sum(math.prod(shape) // 4 for shape in SHAPES)
    assert flops == sum(model.flops_and_tokens(sample)[0] for sample in split_pack(pack))


def write_latents(folder: Path, shapes: list[tuple[int, int, int]]) -> str:
    with ShardWriter(folder) as writer:
        for number, (frames, height, width) in enumerate(shapes):
            generator = torch.Generator().manual_seed(number)
            record = ClipRecord(
                key=f"clip-{number}", source="film.mp4", span_s=(0.0, 1.0), fps=FPS[number % 4],
                num_frames=1 + 4 * (frames - 1), width=width * 8, height=height * 8,
                caption="it moves",
            )  # fmt: skip
            latent = torch.randn(16, frames, height, width, generator=generator)
            text = torch.randn(3, TEXT, generator=generator)
            files = {
                "latent.safetensors": pack_latent(latent),
                "t5.safetensors": pack_embedding(text),
            }
            writer.add(record, files)
    return str(folder)


class Record(pl.Callback):
    """The losses of a run."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.grad_norms: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["reduced_train_loss"]))
        self.grad_norms.append(float(trainer.callback_metrics["grad_norm"]))


def train(folder: str, data: dict[str, Any], config: DiTConfig, **trainer: Any) -> Record:
    record = Record()
    with fresh_globals():
        torch.manual_seed(0)
        fitting = WorldTrainer(
            max_steps=2,
            strategy=WorldStrategy(seed=7),
            limit_val_batches=0,
            log_every_n_steps=1,
            callbacks=[record],
            default_root_dir=folder,
            **trainer,
        )
        model = DiffusionModel(config, VIDEO2WORLD)
        model.world = object()  # nothing is exported
        fitting.fit(model, datamodule=LatentDataModule(folder, text_length=5, **data))
    return record


def test_a_packed_run_has_the_losses_and_gradients_of_a_batched_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five samples, in packs of two, two and one, and in micro-batches of one."""

    def keys_without_position(batch: dict[str, Any], prefix: str) -> list[str]:
        del prefix  # the same sample draws the same noise, wherever it comes in the order
        return [key.partition("@")[0] for key in batch["key"]]

    monkeypatch.setattr("nemo_cosmos.models.diffusion.model.sample_keys", keys_without_position)
    folder = write_latents(tmp_path / "same", [(2, 4, 4)] * 5)
    packed = train(
        folder,
        {"packing": PackConfig(max_tokens=16, window=5), "global_batch_size": 3},
        make_config(),
    )
    batched = train(folder, {"global_batch_size": 5, "shuffle_window": 5}, make_config())
    assert packed.losses[0] == pytest.approx(batched.losses[0], rel=1e-5)
    assert packed.grad_norms[0] == pytest.approx(batched.grad_norms[0], rel=1e-5)


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_training_runs_on_packs_of_all_shapes(tmp_path: Path, precision: str) -> None:
    folder = write_latents(tmp_path / "mixed", list(SHAPES) * 2)
    data = {"packing": PackConfig(max_tokens=40, window=8), "global_batch_size": 2}
    record = train(folder, data, make_config(), precision=precision)
    assert len(record.losses) == 2 and all(0 < loss < 100 for loss in record.losses)
    assert all(norm > 0 for norm in record.grad_norms)


def test_packs_are_not_split_over_context_parallel_processes() -> None:
    model = DiffusionModel(make_config(context_parallel_size=2))
    data = SimpleNamespace(data_spec=lambda: DataSpec(packed=True))
    model._trainer = SimpleNamespace(datamodule=data, strategy=SimpleNamespace(fsdp=None))
    with pytest.raises(ConfigError, match=r"context_parallel_size=1"):
        model.setup("fit")
