"""Put a world model's network together: the transformer, its controls, its learned variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from megatron.core import parallel_state
from torch import nn

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.pipeline_copies import same_on_all_stages, tag_copies
from nemo_cosmos.models.diffusion.controls import (
    ControlEmbedder,
    NetworkDims,
    TokenizerFacts,
    build_embedder,
)
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding, combine
from nemo_cosmos.models.diffusion.network.packs import PackedDiT
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import LogVariance


class NoControl(nn.Module):
    """Stands in for controls that were taken away: zeros in the channels that they would fill.

    Args:
        num_channels: number of these channels.
    """

    zero: torch.Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(num_channels), persistent=False)

    def forward(
        self, batch: Mapping[str, object], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        """Embed nothing for latents of a shape."""
        del batch
        size_B, _, *size_THW = latent_shape_BCTHW
        channels_C111 = self.zero[:, None, None, None]
        return ControlEmbedding(channels_C111.expand(size_B, -1, *size_THW))


class WorldNetwork(PackedDiT):
    """The transformer with what belongs to it in a world model.

    Attributes:
        controls: embedders of the control signals by the control's name; empty without any.
        logvar: learned log-variance of the loss by noise level; None without it.
    """

    ON_EVERY_STAGE = (*PackedDiT.ON_EVERY_STAGE, "controls.")

    controls: nn.ModuleDict
    logvar: LogVariance | None

    def embed_controls(
        self, batch: Mapping[str, object], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding | None:
        """Embed the batch's signals for latents of a shape; None without any control."""
        if not self.controls:
            return None
        return combine([embed(batch, latent_shape_BCTHW) for embed in self.controls.values()])

    def drop_controls(self) -> None:
        """Take the controls away, so that the network generates without their signals."""
        channels = self.config.control_channels
        none = NoControl(channels).to(self.config.params_dtype) if channels else None
        self.controls = nn.ModuleDict({} if none is None else {"none": none})


def build_network(
    config: DiTConfig,
    process: DiffusionConfig,
    controls: Sequence[ControlSpec] = (),
    tokenizer: TokenizerFacts | None = None,
    vp_stage: int | None = None,
) -> WorldNetwork:
    """Build the network, or this rank's part of it.

    Call :func:`nemo_cosmos.platform.ensure_model_parallel` before, or let NeMo's strategy do so.

    Args:
        config: the network's configuration.
        process: the diffusion process, which decides on mask channel and learned variance.
        controls: what steers the model.
        tokenizer: factors of the tokenizer that made the latents, which embedders depend on.
        vp_stage: number of the virtual pipeline stage; None without virtual stages.

    Raises:
        ConfigError: network, process and controls do not fit each other.
    """
    if config.condition_mask != process.takes_frames:
        raise ConfigError(
            f"The network has condition_mask={config.condition_mask}, but the process gives "
            f"max_condition_latents={process.conditioning.max_condition_latents}. Video2World "
            "needs the mask channel and at least 1 condition latent, Text2World neither."
        )
    network = WorldNetwork(
        config,
        pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage),
        post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage),
        vp_stage=vp_stage,
    )
    with same_on_all_stages(network.pp_group, salt=1):
        network.controls = build_embedders(controls, config, tokenizer)
    _check_change_base(network.controls, process)
    tag_copies([network.controls], network.pp_group, network.pre_process)
    learned = process.edm.learned_variance and network.post_process
    network.logvar = LogVariance() if learned else None
    return network


def _check_change_base(controls: nn.ModuleDict, process: DiffusionConfig) -> None:
    """Require a process that learns changes where a control says what they start from."""
    named = [name for name, embed in controls.items() if embed.sets_change_base]
    if named and not process.conditioning.predicts_change:
        raise ConfigError(
            f"The control '{named[0]}' says what a video's changes start from, but the process "
            "learns pictures. Set model.process.conditioning.predicts_change=true, or leave the "
            "control's option out."
        )


def build_embedders(
    controls: Sequence[ControlSpec], config: DiTConfig, tokenizer: TokenizerFacts | None = None
) -> nn.ModuleDict:
    """Build the controls' embedders in the network's precision, tagged for sequence parallelism.

    Args:
        controls: what steers the model, each control once.
        config: configuration of the network that they steer.
        tokenizer: factors of the tokenizer that made the latents.

    Raises:
        ConfigError: a control is named twice, or the controls add other channels than the network
            was built for.
    """
    factors = tokenizer or TokenizerFacts()
    dims = NetworkDims(
        hidden_size=config.hidden_size,
        context_size=config.crossattn_emb_channels,
        temporal_factor=factors.temporal_factor,
        spatial_factor=factors.spatial_factor,
        patch_thw=config.patch_thw,
        latent_channels=config.in_channels,
    )
    embedders: dict[str, ControlEmbedder] = {}
    for spec in controls:
        if spec.name in embedders:
            raise ConfigError(f"The model has the control '{spec.name}' twice; name it once.")
        embedders[spec.name] = build_embedder(spec, dims)
    added = sum(embedder.num_latent_channels for embedder in embedders.values())
    # A network without controls may be built for one that is added later.
    if embedders and added != config.control_channels:
        raise ConfigError(
            f"The controls {', '.join(repr(name) for name in embedders)} add {added} latent "
            f"channels, but the network has control_channels={config.control_channels}. Set it to "
            f"{added}."
        )
    modules = nn.ModuleDict(embedders)
    for parameter in modules.parameters():
        parameter.data = parameter.data.to(config.params_dtype)
        # Each tensor-parallel rank sees part of the sequence; Megatron sums these gradients.
        parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
    return modules
