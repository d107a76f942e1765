"""A second family of a few lines: each latent frame is predicted from the one before and the text.

It is everything that a new family needs, and nothing else in the house knows of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from megatron.core.enums import ModelType
from megatron.core.optimizer import OptimizerConfig
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from nemo import lightning as nl
from torch import Tensor, nn

from nemo_cosmos.batch import spec_of
from nemo_cosmos.errors import ConfigError, WrongFrameCountError
from nemo_cosmos.models.common.costs import (
    Elementwise,
    ForwardFlops,
    ParameterCounts,
    Precision,
    Size3,
    Split,
    StepInputs,
    token_bytes,
)
from nemo_cosmos.models.common.family import ModelDescription, WorldInfo
from nemo_cosmos.models.common.generator import Shot
from nemo_cosmos.models.common.megatron.module import MegatronLightningModule, to_device
from nemo_cosmos.options import option
from nemo_cosmos.progress import Progress

CHANNELS = 16


@dataclass(frozen=True)
class ToySettings:
    width: int
    text_channels: int

    def to_dict(self) -> dict[str, Any]:
        return {"toy": {"width": self.width, "text_channels": self.text_channels}}


@dataclass(frozen=True)
class ToyPreset:
    name: str = "toy_nano"
    task: str = "video2world"
    tokenizer: str = "tokenizer_nano_cv4x8x8"

    @property
    def sizes(self) -> dict[str, int]:
        return {"width": 24}


@dataclass(frozen=True)
class ToyOptions:
    temperature: float = option(0.0, "Noise added to every predicted frame.", least=0)


class ToyNetwork(MegatronModule):
    """(B,C,T,H,W) to the frame that follows each."""

    def __init__(self, config: TransformerConfig, settings: ToySettings) -> None:
        super().__init__(config)
        self.model_type = ModelType.encoder_or_decoder  # Megatron's schedules ask for it
        self.inner = nn.Linear(CHANNELS, settings.width)
        self.text = nn.Linear(settings.text_channels, settings.width)
        self.outer = nn.Linear(settings.width, CHANNELS)

    def forward(self, latent_BCTHW: Tensor, text_BLD: Tensor) -> Tensor:
        text_BE = self.text(text_BLD.mean(1))
        hidden = self.inner(latent_BCTHW.movedim(1, -1)) + text_BE[:, None, None, None]
        return self.outer(hidden.tanh()).movedim(-1, 1)

    def set_input_tensor(self, tensor: Any) -> None:
        """There is one pipeline stage."""


class ToyModel(MegatronLightningModule):
    family: ClassVar[str] = "toy"

    def __init__(self, settings: ToySettings, preset: str | None = None) -> None:
        config = TransformerConfig(
            num_layers=1, hidden_size=settings.width, num_attention_heads=1,
            use_cpu_initialization=True,
        )  # fmt: skip
        adam = OptimizerConfig(optimizer="adam", lr=1e-2, use_distributed_optimizer=True)
        super().__init__(config, nl.MegatronOptimizerModule(config=adam))
        self.settings, self.preset = settings, preset
        self.world: WorldInfo | None = None
        self._fps: float | None = None

    def setup(self, stage: str) -> None:
        if stage == "fit" and spec_of(self.trainer.datamodule).packed:
            raise ConfigError("The toy takes no packs. Leave data.packing out.")

    def build(self, vp_stage: int | None) -> ToyNetwork:
        return ToyNetwork(self.config, self.settings)

    def data_step(self, iterator: Any) -> dict[str, Any]:
        batch = self.next_batch(iterator)
        self._fps = float(batch["fps"][0])
        return {name: to_device(value) for name, value in batch.items()}

    def forward_step(self, batch: Mapping[str, Any]) -> Tensor:
        latent_BCTHW = batch["latent"]
        predicted = self(latent_BCTHW[:, :, :-1], batch["t5_text_embeddings"])
        return (predicted - latent_BCTHW[:, :, 1:]).square().flatten(1).mean(1)

    def describe(self) -> ModelDescription:
        return ModelDescription("toy", self.settings, self.preset, fps=self._fps)


class ToyGenerator:
    options_class = ToyOptions
    takes_frames = takes_text = True
    needs_frames = False
    last_run: ClassVar[Mapping[str, object]] = {}

    def __init__(self, net: ToyNetwork, tokenizer: Any) -> None:
        self.net, self.tokenizer = net, tokenizer

    @property
    def device(self) -> torch.device:
        return self.net.inner.weight.device

    def legal_given(self, num_frames: int) -> list[int]:
        return [1]

    def check(self, num_frames: int, height: int, width: int, options: ToyOptions) -> None:
        if num_frames < 2:
            raise WrongFrameCountError("The toy makes 2 frames or more.")

    @torch.no_grad()
    def generate(self, shot: Shot, progress: Progress | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(shot.seed)
        _, frames, rows, columns = self.tokenizer.latent_shape(
            shot.num_frames, shot.height, shot.width
        )
        first = torch.randn(1, CHANNELS, 1, rows, columns, generator=generator)
        if shot.given_BCTHW is not None:
            first = self.tokenizer.encode(shot.given_BCTHW)
        latents = [first]
        for done in range(1, frames):
            noise = torch.randn(first.shape, generator=generator)
            latents.append(self.net(latents[-1], shot.text_BLD) + shot.options.temperature * noise)
            if progress is not None:
                progress(done, frames - 1)
        video_BCTHW: Tensor = self.tokenizer.decode(torch.cat(latents, dim=2))
        return video_BCTHW


@dataclass(frozen=True)
class ToyWorkload:
    """One layer, in which every token is seen on its own."""

    hidden_size: int
    num_tokens: int
    parameters: ParameterCounts
    micro_batch_size: int
    global_batch_size: int
    precision: Precision
    num_layers: int = 1
    num_heads: int = 1
    sublayers: int = 1
    recompute_group: int = 1
    is_fused: bool = True
    context_kind: str = "p2p"
    fp8_share: float = 0.0

    @property
    def elementwise(self) -> Elementwise:
        return Elementwise(2, 4, 3, 6)

    def variant(self, **changes: Any) -> ToyWorkload:
        return self

    @property
    def flops(self) -> ForwardFlops:
        return ForwardFlops(attention=0, other=4 * self.num_tokens * CHANNELS * self.hidden_size)

    def check_split(self, split: Split) -> None:
        if split != Split():
            raise ConfigError("The toy trains data-parallel only.")

    def layer_bytes(self, split: Split) -> float:
        return 2 * token_bytes(self, split)

    def end_bytes(self, split: Split) -> float:
        return token_bytes(self, split)

    def working_bytes(self, split: Split) -> float:
        return token_bytes(self, split)

    def describe(self) -> dict[str, Any]:
        return {"tokens_per_sample": self.num_tokens}

    def published_bytes(self) -> dict[str, float]:
        return {}


class ToyFamily:
    name = "toy"
    config_keys = ("toy",)
    presets: ClassVar[Mapping[str, ToyPreset]] = {"toy_nano": ToyPreset()}

    def count_parameters(self, preset: str) -> int:
        settings = ToySettings(self.presets[preset].sizes["width"], text_channels=12)
        return sum(p.numel() for p in ToyModel(settings).build(None).parameters())

    def read_settings(self, data: Mapping[str, Any]) -> ToySettings:
        return ToySettings(**data["toy"])

    def fixed_settings(self, settings: ToySettings) -> Mapping[str, Any]:
        return settings.to_dict()["toy"]

    def data_settings(self, settings: ToySettings) -> Mapping[str, int]:
        return {"text_channels": settings.text_channels}

    def build_network(
        self,
        settings: ToySettings,
        tokenizer: Any,
        controls: Sequence[Any],
        *,
        dtype: torch.dtype,
        tp: int = 1,
        cp: int = 1,
    ) -> ToyNetwork:
        return ToyNetwork(ToyModel(settings).config, settings).to(dtype)

    def make_generator(
        self, net: ToyNetwork, settings: ToySettings, tokenizer: Any, folder: Path | None = None
    ) -> Any:
        return ToyGenerator(net, tokenizer)

    def share_weights(self, net: ToyNetwork) -> None:
        """It is small enough to be whole on every rank."""

    def usual_clip(self, model: ToyModel, tokenizer: Any) -> Size3:
        return 9, 32, 32

    def workload(self, model: ToyModel, tokenizer: Any, inputs: StepInputs) -> ToyWorkload:
        _, frames, rows, columns = tokenizer.latent_shape(*inputs.clips_thw[0])
        counted = sum(p.numel() for p in model.build(None).parameters())
        return ToyWorkload(
            hidden_size=model.settings.width,
            num_tokens=frames * rows * columns,
            parameters=ParameterCounts(1, layer_sharded=0, layer_replicated=counted),
            micro_batch_size=inputs.micro_batch_size,
            global_batch_size=inputs.global_batch_size,
            precision=inputs.precision,
        )
