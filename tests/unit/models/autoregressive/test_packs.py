"""Packs of videos of different shapes give the losses and gradients of the videos alone."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nemo_cosmos.batch import DataSpec
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import CodesDataModule
from nemo_cosmos.data.order.packing import PackConfig, collate_pack
from nemo_cosmos.errors import ConfigError, SampleError, WrongFrameCountError
from nemo_cosmos.models.autoregressive.build import build_network
from nemo_cosmos.models.autoregressive.model import ARModel
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.packs import samples_of
from nemo_cosmos.models.common.control_dims import TokenizerFacts
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.tiny import Clips, write_latents
from nemo_cosmos.training.lifecycle import fresh_globals
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer

NUM_CODES, FACTOR, TEXT = 40, 4, 12
# (T, H, W): two videos of different size and aspect, an image, a longer video
SHAPES = ((3, 2, 3), (2, 3, 2), (1, 4, 2), (4, 2, 2))
SIZES: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 24,
    "ffn_hidden_size": 32,
    "num_attention_heads": 2,
    "num_query_groups": 1,
    "vocab_size": NUM_CODES,
    "max_frames": 4,
    "max_height": 4,
    "max_width": 4,
}
WITH_TEXT = {"context_channels": TEXT, "absolute_positions": True, "begin_token": True}
RECOMPUTED = {
    "recompute_granularity": "full",
    "recompute_method": "uniform",
    "recompute_num_layers": 1,
}


def make_model(steered: bool = False, **changes: Any) -> ARModel:
    """A model whose network is built, and in which every weight matters."""
    ensure_model_parallel()
    controls = (ControlSpec("action"),) if steered else ()
    width = {"control_channels": 20} if steered and "context_channels" not in changes else {}
    model = ARModel(
        ARConfig(**{**SIZES, **width, **changes}),
        controls=controls,
        tokenizer=TokenizerFacts(FACTOR),
    )
    torch.manual_seed(0)
    model.module = build_network(model.config, controls, TokenizerFacts(FACTOR)).train()
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_pack() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    return collate_pack(
        [
            {
                "key": f"sample-{index}",
                "codes": torch.randint(NUM_CODES, shape, generator=generator),
                "t5_text_embeddings": torch.randn(5, TEXT, generator=generator),
                "fps": torch.tensor(10.0),
                "action": torch.randn(FACTOR * (shape[0] - 1), 7, generator=generator),
            }
            for index, shape in enumerate(SHAPES)
        ]
    )


def losses_and_gradients(
    model: ARModel, batch: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    assert model.module is not None
    model.module.zero_grad(set_to_none=True)
    loss_B = model.forward_step(batch)
    loss_B.sum().backward()
    return loss_B.detach(), {name: p.grad for name, p in model.module.named_parameters()}


@pytest.mark.parametrize(
    ("steered", "changes"),
    [(False, RECOMPUTED), (True, WITH_TEXT)],
    ids=["alone, recomputed", "text and action"],
)
def test_packed_losses_and_gradients_are_those_of_the_videos_alone(
    steered: bool, changes: dict[str, Any]
) -> None:
    model, pack = make_model(steered, **changes), make_pack()
    packed_loss_B, packed = losses_and_gradients(model, pack)
    alone = [losses_and_gradients(model, one) for one in samples_of(pack)]  # type: ignore[arg-type]
    torch.testing.assert_close(packed_loss_B, torch.cat([loss for loss, _ in alone]))
    assert packed_loss_B.unique().numel() == len(SHAPES)
    for name, gradient in packed.items():
        parts = [gradients[name] for _, gradients in alone]
        found = [part for part in parts if part is not None]
        assert found and gradient is not None, name
        expected = torch.stack(found).sum(0)
        assert (gradient - expected).norm() <= 1e-5 * expected.norm() + 1e-7, name


@torch.no_grad()
def test_padding_tokens_change_nothing() -> None:
    """Sequence parallelism pads a pack until its tokens divide."""
    model, pack = make_model(steered=True), make_pack()
    expected_B = model.forward_step(pack)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.network().sequence, "num_padding", lambda num_tokens: 3)
        torch.testing.assert_close(model.forward_step(pack), expected_B)  # type: ignore[arg-type]


def test_operations_of_a_pack_are_those_of_its_videos() -> None:
    model, pack = make_model(), make_pack()
    flops, tokens = model.flops_and_tokens(pack)  # type: ignore[arg-type]
    assert tokens == sum(map(math.prod, SHAPES))
    assert flops == sum(model.flops_and_tokens(one)[0] for one in samples_of(pack))  # type: ignore[arg-type]


def test_a_bad_video_of_a_pack_is_found_before_it_costs_a_step() -> None:
    model, pack = make_model(), make_pack()
    pack["codes"][2][0, 0, 0] = NUM_CODES
    with pytest.raises(SampleError, match="0 to 39"):
        model.data_step(iter([pack]))
    pack["codes"][2] = torch.zeros(5, 2, 2, dtype=torch.int64)
    with pytest.raises(WrongFrameCountError, match="5 latent frames"):
        model.data_step(iter([pack]))


def test_a_run_trains_on_packs_and_counts_a_token_for_each_code(tmp_path: Path) -> None:
    """Videos of 48 and 24 codes: a pack of 80 has room for one of each, whatever the patches."""
    for height in (32, 16):
        clips = Clips(num_codes=NUM_CODES, num_samples=2, height=height)
        write_latents(tmp_path / str(height), clips, tokenizer="unused")
    data = CodesDataModule(
        [str(tmp_path / "32"), str(tmp_path / "16")],
        global_batch_size=2,
        text_length=8,
        packing=PackConfig(max_tokens=80, patch=(1, 2, 2), window=4),
    )
    pack = next(iter(data.train_dataloader()))
    assert sorted(codes.numel() for codes in pack["codes"]) == [24, 48]
    with fresh_globals():
        trainer = WorldTrainer(
            max_steps=2,
            strategy=WorldStrategy(seed=7),
            limit_val_batches=0,
            log_every_n_steps=1,
            default_root_dir=str(tmp_path),
        )
        model = ARModel(ARConfig(**SIZES))
        model.world = object()  # type: ignore[assignment]  # nothing is exported
        trainer.fit(model, datamodule=data)
    assert 0 < float(trainer.callback_metrics["reduced_train_loss"]) < 2 * math.log(NUM_CODES)
    assert float(trainer.callback_metrics["grad_norm"]) > 0


def test_packs_are_not_split_over_context_parallel_processes() -> None:
    model = ARModel(ARConfig(**SIZES, context_parallel_size=2))
    data = SimpleNamespace(data_spec=lambda: DataSpec(packed=True))
    model._trainer = SimpleNamespace(datamodule=data, strategy=SimpleNamespace(fsdp=None))
    with pytest.raises(ConfigError, match="context_parallel_size=1"):
        model.setup("fit")
