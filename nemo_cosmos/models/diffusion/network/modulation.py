"""Adaptive layer normalisation: the noise level shifts, scales and gates each sub-layer.

Shape suffixes: T is the number of latent frames, or 1 where the whole video has one noise level;
the tokens of a frame are consecutive, so that (L, B, E) tokens are (T, L/T, B, E) frames without a
copy, and one code path serves both at no cost to the common case T = 1.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from nemo_cosmos.models.common.fused import layer_norm_by_row
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


def modulate(
    x_LBE: torch.Tensor,
    shift_TBE: torch.Tensor,
    scale_TBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalise tokens over their width, then scale by ``1 + scale`` and shift, frame by frame.

    Args:
        x_LBE: tokens.
        shift_TBE: shift of each frame.
        scale_TBE: scale of each frame, less one.
        row_L: the one of the T rows that each token takes; by default the tokens are T equal
            frames.
    """
    if row_L is not None:
        shift_TBE, scale_TBE = take_rows(shift_TBE, row_L), take_rows(scale_TBE, row_L)
    return layer_norm_by_row(x_LBE, 1 + scale_TBE, shift_TBE, eps=1e-6)


def add_gated(
    x_LBE: torch.Tensor,
    gate_TBE: torch.Tensor,
    update_LBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``x + gate * update``, frame by frame; ``row_L`` as in :func:`modulate`."""
    if row_L is not None:
        gate_TBE = take_rows(gate_TBE, row_L)
    update = update_LBE.unflatten(0, (len(gate_TBE), -1)) * gate_TBE[:, None]
    return x_LBE + update.flatten(0, 1)


def take_rows(table_TBE: torch.Tensor, row_L: torch.Tensor) -> torch.Tensor:
    """Return the row of a table that each token takes, (L, B, E).

    An embedding, not an index: on CUDA the gradient of an index is summed by one warp for all
    tokens of a row, one after another; that of an embedding is sorted and summed in segments.
    """
    return F.embedding(row_L, table_TBE.flatten(1)).unflatten(1, table_TBE.shape[1:])
