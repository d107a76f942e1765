"""What every layer of the diffusion transformer sees besides the tokens.

Shape suffixes: L tokens, M context tokens, B batch, T latent frames or 1, E model width, C channels
of the context, D half of a head's channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class LayerInputs(NamedTuple):
    """The inputs that all layers share; tensors only, so that recomputation can save them.

    Attributes:
        activated_TBE: SiLU of the timestep embedding; T is 1 or the number of latent frames.
        shared_TB3E: modulation that all layers share.
        rope_cos_LB1D: cosines of the rotary embedding's angles.
        rope_sin_LB1D: sines of the same angles.
        position_L1E: learned position embedding; None without one.
        context_MBC: text and the controls' context tokens; None where the layers get its keys and
            values instead.
        row_L: in a packed sequence, which of the T modulations each token takes; None where the
            tokens are T equal frames.
        added_LBE: what controls add to the tokens before the first layer; None for nothing.
    """

    activated_TBE: torch.Tensor
    shared_TB3E: torch.Tensor
    rope_cos_LB1D: torch.Tensor
    rope_sin_LB1D: torch.Tensor
    position_L1E: torch.Tensor | None
    context_MBC: torch.Tensor | None
    row_L: torch.Tensor | None = None
    added_LBE: torch.Tensor | None = None
