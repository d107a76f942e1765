"""Put a world model's network together: the transformer, its control, its learned variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from megatron.core import parallel_state

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.pipeline_copies import same_on_all_stages, tag_copies
from nemo_cosmos.models.diffusion.controls import Control, NetworkDims, build_control
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import LogVariance


@dataclass(frozen=True)
class ControlSpec:
    """Which control a model has.

    Attributes:
        name: as registered under the entry point group ``nemo_cosmos.controls``.
        temporal_factor: pixel frames a latent frame, as of the tokenizer.
        spatial_factor: pixels a latent row or column.
        options: what the control's ``build`` takes besides, such as the actions' statistics.
    """

    name: str
    temporal_factor: int
    spatial_factor: int = 8
    options: Mapping[str, Any] = field(default_factory=dict)


class WorldNetwork(DiT):
    """The transformer with what belongs to it in a world model.

    Attributes:
        control: embeds the control signals; None without one.
        logvar: learned log-variance of the loss by noise level; None without it.
    """

    control: Control | None
    logvar: LogVariance | None


def build_network(
    config: DiTConfig,
    process: DiffusionConfig,
    control: ControlSpec | None = None,
    vp_stage: int | None = None,
) -> WorldNetwork:
    """Build the network, or this process's part of it.

    Call :func:`nemo_cosmos.platform.ensure_model_parallel` before, or let NeMo's strategy do so.

    Raises:
        ConfigError: network, process and control do not fit each other.
    """
    if config.condition_mask != process.conditioning.takes_frames:
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
        network.control = build_control_module(control, config)
    tag_copies([network.control], network.pp_group, network.pre_process)
    learned = process.edm.learned_variance and network.post_process
    network.logvar = LogVariance() if learned else None
    return network


def build_control_module(spec: ControlSpec | None, config: DiTConfig) -> Control | None:
    """Build the control in the network's precision, tagged for sequence parallelism.

    Args:
        spec: which control; None for none.
        config: of the network that it steers.

    Raises:
        ConfigError: the control adds other channels than the network was built for.
    """
    if spec is None:
        return None
    dims = NetworkDims(
        hidden_size=config.hidden_size,
        context_size=config.crossattn_emb_channels,
        temporal_factor=spec.temporal_factor,
        spatial_factor=spec.spatial_factor,
    )
    control = build_control(spec.name, dims, spec.options)
    if control.num_latent_channels != config.control_channels:
        raise ConfigError(
            f"The control '{spec.name}' adds {control.num_latent_channels} latent channels, but "
            f"the network has control_channels={config.control_channels}. Set it to "
            f"{control.num_latent_channels}."
        )
    for parameter in control.parameters():
        parameter.data = parameter.data.to(config.params_dtype)
        # Each tensor-parallel process sees part of the sequence; Megatron sums these gradients.
        parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
    return control
