"""What a control hands to the network: the places where camera, action and the like enter."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class ControlEmbedding:
    """Embedded control signals of a batch; each field enters the DiT at its own place.

    T is the number of latent frames, or 1 for one value for the whole video; D the model's width.

    Attributes:
        latent_channels_BCTHW: further input channels on the latent grid
            (``DiTConfig.control_channels`` of them).
        timestep_BTD: added to the timestep's embedding, before it is normalised.
        adaln_lora_BT3D: added to the modulation that all layers share.
        context_BLD: further tokens for cross-attention, after the text's.
    """

    latent_channels_BCTHW: torch.Tensor | None = None
    timestep_BTD: torch.Tensor | None = None
    adaln_lora_BT3D: torch.Tensor | None = None
    context_BLD: torch.Tensor | None = None
