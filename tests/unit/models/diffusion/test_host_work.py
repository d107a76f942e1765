"""What the host waits for and copies in a training step: with a GPU, next to nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from megatron.core.distributed import DistributedDataParallelConfig
from nemo import lightning as nl

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.order.packing import collate_pack
from nemo_cosmos.models.common.megatron import module as megatron_module
from nemo_cosmos.models.common.megatron.module import MeanLoss, to_device
from nemo_cosmos.models.diffusion.build import build_network
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.packs import is_pack
from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs, make_denoiser
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.diffusion.process.samplers import sample
from nemo_cosmos.models.diffusion.process.training_step import cut_batch, prepare_step
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.recording_device import DEVICE, Recording
from nemo_cosmos.training.lifecycle import fresh_globals
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.stepping import SteppedFit
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer

TEXT = 12
PROCESS = DiffusionConfig(
    edm=EDMConfig(learned_variance=True),
    conditioning=ConditioningConfig(max_condition_latents=2),
)
PINNED = "device.py:upload"


def make_config(**overrides: Any) -> DiTConfig:
    values = {
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


def make_sample(index: int, frames: int = 3) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(index)
    return {
        "key": f"sample-{index}",
        "latent": torch.randn(16, frames, 4, 4, generator=generator),
        "t5_text_embeddings": torch.randn(5, TEXT, generator=generator),
        "fps": torch.tensor(10.0),
        "padding_mask": torch.zeros(1, 32, 32),
        "action": torch.randn(4 * (frames - 1), 7, generator=generator),
    }


def make_batch() -> dict[str, Any]:
    samples = [make_sample(index) for index in range(2)]
    return {
        name: torch.stack(values) if isinstance(values[0], torch.Tensor) else values
        for name, *values in zip(samples[0], *(one.values() for one in samples), strict=True)
    }


RECOMPUTED = {
    "recompute_granularity": "full",
    "recompute_method": "uniform",
    "recompute_num_layers": 1,
}


@pytest.mark.parametrize(
    ("batch", "controls", "config", "uploads"),
    [
        (make_batch(), (), {}, 1),
        (make_batch(), (), {"bf16": True, "params_dtype": torch.bfloat16}, 1),
        (make_batch(), (), RECOMPUTED, 1),
        (make_batch(), (ControlSpec("action"),), {}, 1),
        (
            cut_batch(make_batch(), LatentBox.of((3, 4, 4), (1, 2, 2), 2, 1), DiffusionConfig()),
            (),
            {},
            1,
        ),
        # Each sample's draws, each token's row of the modulation, four boundaries of samples.
        (collate_pack([make_sample(0), make_sample(1, frames=1)]), (), {}, 2 + 1 + 4),
    ],
    ids=["batch", "bfloat16", "recomputed", "control", "context-parallel", "pack"],
)
def test_between_a_batch_and_its_gradients_the_host_waits_for_nothing(
    batch: dict[str, Any],
    controls: tuple[ControlSpec, ...],
    config: dict[str, Any],
    uploads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ensure_model_parallel()
    settings = make_config(**config, calculate_per_token_loss=is_pack(batch))
    facts = TokenizerFacts(temporal_factor=4, spatial_factor=8)
    net = build_network(settings, PROCESS, controls, facts).to(DEVICE).train()
    monkeypatch.setattr(megatron_module, "default_device", lambda: DEVICE)
    moved = {name: to_device(value) for name, value in batch.items()}

    with Recording() as recording:
        step = prepare_step(moved, batch["key"], 1, 2, PROCESS, net.embed_controls)
        loss_B = step.loss(net(step.inputs), net.logvar(step.c_noise_B))
        loss, *_ = MeanLoss(settings).forward(moved, loss_B)
        loss.backward()

    assert all(p.grad is not None for name, p in net.named_parameters() if "control" not in name)
    assert recording.num_operations > 500
    assert {event.kind for event in recording.events} == {"upload"}, recording.events
    assert Counter(event.place for event in recording.events) == {PINNED: uploads}


@pytest.mark.parametrize("guidance", [0.0, 3.0])
@pytest.mark.parametrize("sampler", ["res_2ab", "edm_euler"])
def test_a_sampler_waits_once_at_its_end_and_places_its_tokens_once(
    sampler: str, guidance: float
) -> None:
    ensure_model_parallel()
    net = build_network(make_config(condition_mask=False), DiffusionConfig()).to(DEVICE).eval()
    text_BLD = torch.empty(1, 5, TEXT, device=DEVICE)
    given = SamplingInputs(text_BLD, torch.zeros_like(text_BLD), guidance, text_BLD.new_ones(1))
    noise_BCTHW = torch.empty(1, 16, 3, 4, 4, device=DEVICE)
    waited_at, placed = [], []
    for part in (net.rope, net.position_embed):
        part.register_forward_hook(lambda part, *_: placed.append(type(part).__name__))
    with torch.no_grad(), Recording() as recording:
        denoise = make_denoiser(net, given, DiffusionConfig())
        sample(
            denoise,
            noise_BCTHW,
            sampler=sampler,
            num_steps=4,
            progress=lambda done, total: waited_at.append(len(recording.events)),
        )
    assert waited_at and set(waited_at) == {0}
    assert [event.place for event in recording.events] == ["samplers.py:sample"]
    assert sorted(placed) == ["LearnedPositionEmbedding", "Rope3D"], "once, not at every step"


class Samples(pl.LightningDataModule):
    """Samples, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.data_sampler = nl.MegatronDataSampler(
            seq_len=1, micro_batch_size=2, global_batch_size=2
        )

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader([make_sample(index) for index in range(8)])

    def val_dataloader(self) -> list[Any]:
        return []


def test_a_step_of_the_trainer_reads_one_number(tmp_path: Path) -> None:
    """The gradients' norm, which Megatron-Core clips by; here twice, for want of Apex's kernel."""
    ddp = DistributedDataParallelConfig(check_for_nan_in_grad=False)
    with fresh_globals():
        trainer = WorldTrainer(max_steps=4, log_every_n_steps=4, strategy=WorldStrategy(ddp=ddp))
        RunLogger(name="run", log_dir=str(tmp_path), ckpt=None).setup(trainer)
        training = SteppedFit(trainer, DiffusionModel(make_config()), Samples())
        training.step()
        with Recording(torch.device("cpu")) as recording:
            training.step()
        training.end()
    assert recording.num_operations > 500
    assert Counter(event.place for event in recording.events) == {
        "utils.py:local_multi_tensor_l2_norm": 1,
        "clip_grads.py:get_grad_norm_fp32": 1,
    }
