"""What controls hand to the network: the places where camera, action and the like enter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch

from nemo_cosmos.errors import ConfigError


@dataclass
class ControlEmbedding:
    """Embedded control signals of a batch; each field enters the DiT at its own place.

    T is the number of latent frames, or 1 for one value for the whole video; D the model's width;
    t h w count tokens, that is patches of the latent, along time, height and width.

    Attributes:
        latent_channels_BCTHW: further input channels on the latent grid
            (``DiTConfig.control_channels`` of them).
        tokens_BDthw: added to the tokens of the latent's patches, before the first layer. A linear
            map of channels does the same as further channels of the latent, in the same network.
        change_base_BCTHW: what each place of the latent is expected to look like from the given
            first frame and the control alone. A process that learns changes learns them from
            there, instead of from the first frame as it is. One control of a model may say it.
        timestep_BTD: added to the timestep's embedding, before it is normalised.
        adaln_lora_BT3D: added to the modulation that all layers share.
        context_BLD: further tokens for cross-attention, after the text's.
    """

    latent_channels_BCTHW: torch.Tensor | None = None
    timestep_BTD: torch.Tensor | None = None
    adaln_lora_BT3D: torch.Tensor | None = None
    context_BLD: torch.Tensor | None = None
    tokens_BDthw: torch.Tensor | None = None
    change_base_BCTHW: torch.Tensor | None = None


def combine(embeddings: Sequence[ControlEmbedding]) -> ControlEmbedding:
    """Return what several controls add together.

    What goes to the noise level, the modulation and the tokens is summed; a value for the whole
    video counts for every frame of another control. Latent channels and context tokens are
    concatenated in the controls' order.
    """
    return ControlEmbedding(
        latent_channels_BCTHW=_concatenate([one.latent_channels_BCTHW for one in embeddings]),
        timestep_BTD=_sum([one.timestep_BTD for one in embeddings]),
        adaln_lora_BT3D=_sum([one.adaln_lora_BT3D for one in embeddings]),
        context_BLD=_concatenate([one.context_BLD for one in embeddings]),
        tokens_BDthw=_sum([one.tokens_BDthw for one in embeddings]),
        change_base_BCTHW=_only([one.change_base_BCTHW for one in embeddings]),
    )


def _sum(values: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    given = [value for value in values if value is not None]
    return reduce(torch.add, given) if given else None


def _only(values: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    given = [value for value in values if value is not None]
    if len(given) > 1:
        raise ConfigError(
            f"{len(given)} controls say where a video's changes start from "
            "(change_base_BCTHW); expected one. Leave the option out for the others."
        )
    return given[0] if given else None


def _concatenate(values: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    given = [value for value in values if value is not None]
    return (given[0] if len(given) == 1 else torch.cat(given, dim=1)) if given else None
