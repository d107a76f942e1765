"""The autoregressive family behind the contract that the other rooms speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive import costs
from nemo_cosmos.models.autoregressive.build import ARWorldNetwork, build_network
from nemo_cosmos.models.autoregressive.controls import num_context_tokens
from nemo_cosmos.models.autoregressive.costs import ARWorkload
from nemo_cosmos.models.autoregressive.generator import ARGenerator
from nemo_cosmos.models.autoregressive.network.places import check_grid
from nemo_cosmos.models.autoregressive.presets import (
    AUTOREGRESSIVE,
    ARPreset,
    count_parameters,
    get_ar_preset,
)
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.settings import FAMILY, ARSettings, ar_settings
from nemo_cosmos.models.common.control_dims import TokenizerFacts
from nemo_cosmos.models.common.family import FamilySettings, WorldFamily
from nemo_cosmos.models.common.generator import Generator
from nemo_cosmos.models.common.latents import LatentCodec, LatentGrid

if TYPE_CHECKING:
    from nemo_cosmos.models.autoregressive.model import ARModel
    from nemo_cosmos.models.common.costs import Size3, StepInputs

_CONTEXT_PARALLEL = (
    "An autoregressive model makes one token after the other, which {} context-parallel ranks "
    "cannot share. Let all ranks share its weights (--tensor-parallel {})."
)


class AutoregressiveFamily:
    """Transformers that predict the next code of a discrete tokenizer."""

    name = FAMILY
    config_keys = ("network", "process")

    @property
    def presets(self) -> Mapping[str, ARPreset]:
        """The published sizes and our own."""
        return AUTOREGRESSIVE

    def count_parameters(self, preset: str) -> int:
        """Return a preset's number of parameters, counted without memory."""
        return count_parameters(get_ar_preset(preset))

    def read_settings(self, data: Mapping[str, Any]) -> ARSettings:
        """Rebuild the settings from ``config.json``.

        Raises:
            ConfigError: a name that is unknown or missing, or an impossible value.
        """
        settings = ARSettings(data["network"], ARProcess.from_dict(data["process"]))
        settings.network_config()  # checks every name and number
        return settings

    def fixed_settings(self, settings: FamilySettings) -> Mapping[str, Any]:
        """Return the architecture but for what controls add."""
        return {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in ar_settings(settings).network.items()
            if name != "control_channels"
        }

    def data_settings(self, settings: FamilySettings) -> Mapping[str, int]:
        """Return the channels of text embeddings, where the network attends to a text."""
        channels = ar_settings(settings).network.get("context_channels")
        return {"text_channels": channels} if channels else {}

    def build_network(
        self,
        settings: FamilySettings,
        tokenizer: LatentGrid,
        controls: Sequence[ControlSpec],
        *,
        dtype: torch.dtype,
        tp: int = 1,
        cp: int = 1,
    ) -> ARWorldNetwork:
        """Build this rank's part of the network without initialising it."""
        if cp > 1:
            raise ConfigError(_CONTEXT_PARALLEL.format(cp, cp * tp))
        config = ar_settings(settings).network_config(
            params_dtype=dtype,
            perform_initialization=False,
            # The weights are read on the CPU, from where they are moved.
            use_cpu_initialization=True,
            tensor_model_parallel_size=tp,
        )
        return build_network(config, controls, TokenizerFacts.of(tokenizer))

    def make_generator(
        self,
        net: nn.Module,
        settings: FamilySettings,
        tokenizer: LatentCodec,
        folder: Path | None = None,
    ) -> Generator:
        """Return what makes videos with a built network."""
        assert isinstance(net, ARWorldNetwork)
        return ARGenerator(net, ar_settings(settings).process, tokenizer, folder)

    def share_weights(self, net: nn.Module) -> None:
        """Refuse: gathering every layer again for every token would take longer than the token.

        Raises:
            ConfigError: always; tensor parallelism shares the weights out.
        """
        raise ConfigError(_CONTEXT_PARALLEL.format("several", "N"))

    def usual_clip(self, model: ARModel, tokenizer: LatentGrid) -> Size3:
        """Return the published size of a training video, or the nano one where it is too large."""
        return costs.usual_clip(model.config, tokenizer)

    def workload(self, model: ARModel, tokenizer: LatentGrid, inputs: StepInputs) -> ARWorkload:
        """Describe one training step to the planner.

        Raises:
            WrongFrameCountError, WrongSizeError: the network does not take such videos.
        """
        grids = [costs.grid_of(clip, tokenizer) for clip in inputs.clips_thw]
        for grid in grids:
            check_grid(grid, model.config)
        text = inputs.num_text_tokens if model.config.context_channels else 0
        return ARWorkload(
            config=model.config,
            grid_thw=grids[0],
            num_text_tokens=text + num_context_tokens(model.controls, grids[0]),
            micro_batch_size=inputs.micro_batch_size,
            global_batch_size=inputs.global_batch_size,
            precision=inputs.precision,
            packed=inputs.packed,
            other_grids_thw=tuple(grids[1:]),
            controls=model.controls,
            tokenizer=TokenizerFacts.of(tokenizer),
            peft=model.peft,
        )


AUTOREGRESSIVE_FAMILY: WorldFamily = AutoregressiveFamily()
