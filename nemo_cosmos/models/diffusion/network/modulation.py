"""Adaptive layer normalisation: the noise level shifts, scales and gates each sub-layer.

Shifting, scaling and gating are :mod:`nemo_cosmos.models.common.fused`'s.

Shape suffixes: T is the number of latent frames, or 1 where the whole video has one noise level;
the tokens of a frame are consecutive, so that (L, B, E) tokens are (T, L/T, B, E) frames without a
copy, and one code path serves both at no cost to the common case T = 1.
"""

from __future__ import annotations

import torch
from torch import nn

from nemo_cosmos.models.common.norms import ReplicatedLinear
from nemo_cosmos.models.diffusion.network.config import DiTConfig


class AdaLNLoRA(nn.Module):
    """The modulation of one sub-layer: a low-rank map of the embedding plus the shared part.

    Args:
        config: the network's configuration: width and rank.
        num_parts: 3 for shift, scale and gate; 2 for shift and scale.
    """

    def __init__(self, config: DiTConfig, num_parts: int = 3) -> None:
        super().__init__()
        self.num_parts = num_parts
        self.linear_1 = ReplicatedLinear(config.hidden_size, config.adaln_lora_dim, config)
        self.linear_2 = ReplicatedLinear(
            config.adaln_lora_dim, num_parts * config.hidden_size, config
        )
        if config.perform_initialization:
            # At first every gate is what the shared modulation makes it.
            nn.init.zeros_(self.linear_2.weight)

    def forward(
        self, activated_TBE: torch.Tensor, shared_TB3E: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the parts, each (T, B, E).

        Args:
            activated_TBE: SiLU of the timestep embedding.
            shared_TB3E: the modulation that all layers share; its first parts are used.
        """
        parts = self.linear_2(self.linear_1(activated_TBE))
        return (parts + shared_TB3E[..., : parts.shape[-1]]).chunk(self.num_parts, dim=-1)
