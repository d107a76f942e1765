"""The diffusion family behind the contract that the other rooms speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.models.common.family import FamilySettings, WorldFamily
from nemo_cosmos.models.common.generator import Generator
from nemo_cosmos.models.common.latents import LatentCodec, LatentGrid
from nemo_cosmos.models.diffusion import costs
from nemo_cosmos.models.diffusion.build import WorldNetwork, build_network
from nemo_cosmos.models.diffusion.controls import FAMILY, TokenizerFacts
from nemo_cosmos.models.diffusion.costs import DiffusionWorkload
from nemo_cosmos.models.diffusion.generator import DiffusionGenerator
from nemo_cosmos.models.diffusion.parallel.shared_weights import share_weights
from nemo_cosmos.models.diffusion.presets import (
    DIFFUSION,
    DiffusionPreset,
    count_parameters,
    get_diffusion_preset,
)
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.settings import DiffusionSettings, diffusion_settings

if TYPE_CHECKING:
    from pathlib import Path

    from nemo_cosmos.models.common.costs import Size3, StepInputs
    from nemo_cosmos.models.diffusion.model import DiffusionModel


class DiffusionFamily:
    """Diffusion transformers: Text2World, Video2World and their controls."""

    name = FAMILY
    config_keys = ("network", "process")

    @property
    def presets(self) -> Mapping[str, DiffusionPreset]:
        """The published sizes and our own."""
        return DIFFUSION

    def count_parameters(self, preset: str) -> int:
        """Return a preset's number of parameters, counted without memory."""
        return count_parameters(get_diffusion_preset(preset))

    def read_settings(self, data: Mapping[str, Any]) -> DiffusionSettings:
        """Rebuild the settings from ``config.json``.

        Raises:
            ConfigError: a name that is unknown or missing, or an impossible value.
        """
        settings = DiffusionSettings(data["network"], DiffusionConfig.from_dict(data["process"]))
        settings.network_config()  # checks every name and number
        return settings

    def fixed_settings(self, settings: FamilySettings) -> Mapping[str, Any]:
        """Return the architecture but for what controls add, and the scale of the data."""
        diffusion = diffusion_settings(settings)
        fixed = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in diffusion.network.items()
            if name not in ("control_channels", "view_slots")
        }
        return {**fixed, "sigma_data": diffusion.process.edm.sigma_data}

    def data_settings(self, settings: FamilySettings) -> Mapping[str, int]:
        """Return the channels of text embeddings and latents that the network takes."""
        network = diffusion_settings(settings).network
        taken = {"text_channels": "crossattn_emb_channels", "latent_channels": "in_channels"}
        # Building the network says what a damaged configuration lacks.
        return {name: network[field] for name, field in taken.items() if field in network}

    def build_network(
        self,
        settings: FamilySettings,
        tokenizer: LatentGrid,
        controls: Sequence[ControlSpec],
        *,
        dtype: torch.dtype,
        tp: int = 1,
        cp: int = 1,
    ) -> WorldNetwork:
        """Build this rank's part of the network without initialising it."""
        diffusion = diffusion_settings(settings)
        config = diffusion.network_config(
            params_dtype=dtype,
            perform_initialization=False,
            # The weights are read on the CPU, from where they are moved or sharded.
            use_cpu_initialization=True,
            tensor_model_parallel_size=tp,
            context_parallel_size=cp,
        )
        return build_network(config, diffusion.process, controls, TokenizerFacts.of(tokenizer))

    def make_generator(
        self,
        net: nn.Module,
        settings: FamilySettings,
        tokenizer: LatentCodec,
        folder: Path | None = None,
    ) -> Generator:
        """Return what makes videos with a built network."""
        assert isinstance(net, WorldNetwork)
        return DiffusionGenerator(net, diffusion_settings(settings).process, tokenizer)

    def share_weights(self, net: nn.Module) -> None:
        """Keep this rank's part of every weight, in place."""
        assert isinstance(net, WorldNetwork)
        share_weights(net)

    def usual_clip(self, model: DiffusionModel, tokenizer: LatentGrid) -> Size3:
        """Return the published size of a training video, or the nano one where it is too large."""
        return costs.usual_clip(model.config, tokenizer)

    def workload(
        self, model: DiffusionModel, tokenizer: LatentGrid, inputs: StepInputs
    ) -> DiffusionWorkload:
        """Describe one training step to the planner.

        Raises:
            WrongFrameCountError, WrongSizeError: the network does not take such videos.
        """
        views = inputs.num_views or costs.usual_views(model.config)
        latents = [
            costs.latent_of(clip, model.config, tokenizer, views) for clip in inputs.clips_thw
        ]
        return DiffusionWorkload(
            config=model.config,
            latent_thw=latents[0],
            num_text_tokens=inputs.num_text_tokens,
            micro_batch_size=inputs.micro_batch_size,
            global_batch_size=inputs.global_batch_size,
            precision=inputs.precision,
            noise_levels=latents[0][0] if model.controls else 1,
            packed=inputs.packed,
            other_latents_thw=tuple(latents[1:]),
            controls=model.controls,
            tokenizer=model.tokenizer,
            learned_variance=model.process.edm.learned_variance,
            peft=model.peft,
        )


DIFFUSION_FAMILY: WorldFamily = DiffusionFamily()
