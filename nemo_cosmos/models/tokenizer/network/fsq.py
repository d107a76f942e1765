"""Finite scalar quantisation, the codebook of the discrete tokenizers.

Each of d latent channels is squashed to L_i levels and rounded; the tuple of rounded values is the
code and needs no learnt codebook. Cosmos uses levels (8, 8, 8, 5, 5, 5): 64,000 codes.

Source: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", arXiv 2309.15505,
appendix A.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nemo_cosmos.errors import InputError

_MARGIN = 1e-3  # keeps the outermost levels reachable by a finite input


class FSQ(nn.Module):
    """Quantiser between ``quant_conv`` and ``post_quant_conv``; it has no parameters.

    Codes are per channel in [-1, 1]; indices are int32 in [0, prod(levels)). The buffers are those
    of the reference's state dict. Arithmetic is float32 whatever the network's precision, so that
    an index never depends on it.
    """

    _levels: Tensor
    _basis: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.num_codes = math.prod(levels)
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("_levels", torch.tensor(levels, dtype=torch.int32))
        self.register_buffer("_basis", torch.tensor(basis, dtype=torch.int32))
        codebook = self.codes_of(torch.arange(self.num_codes, dtype=torch.int32))
        self.register_buffer("implicit_codebook", codebook)

    def forward(self, z_BdTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise.

        Args:
            z_BdTHW: continuous latents, one channel a level.

        Returns:
            Indices (B,T,H,W) int32, and codes (B,d,T,H,W) in the dtype of the input, through which
            gradients pass as if there had been no rounding.
        """
        bounded = self._bound(z_BdTHW.movedim(1, -1).float())
        rounded = bounded + (bounded.round() - bounded).detach()
        half_width = self._levels // 2
        codes = rounded / half_width
        indices = ((rounded.detach().round().int() + half_width) * self._basis).sum(-1)
        return indices.int(), codes.movedim(-1, 1).to(z_BdTHW.dtype)

    def codes_of(self, indices: Tensor) -> Tensor:
        """Codes (..., d) float32 of indices (...); the inverse of :meth:`forward`."""
        half_width = self._levels // 2
        digits = indices.unsqueeze(-1) // self._basis % self._levels
        return (digits - half_width) / half_width

    def check_indices(self, indices: Tensor) -> None:
        """Raise :class:`InputError` unless the indices are integers of this codebook."""
        if indices.is_floating_point() or indices.ndim != 4:
            raise InputError(
                f"A discrete tokenizer decodes integer indices (batch, frames, height, width), not "
                f"{indices.dtype} of shape {tuple(indices.shape)}. Pass what `encode` returned."
            )
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= self.num_codes:
            raise InputError(
                f"Code indices run from {low} to {high}, but the codebook has indices 0 to "
                f"{self.num_codes - 1}. They come from another tokenizer or are damaged."
            )

    def _bound(self, z: Tensor) -> Tensor:
        """Squash channel i to the open interval that rounds to ``levels[i]`` integers."""
        half_range = (self._levels - 1) * (1 + _MARGIN) / 2
        offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)
        shift = (offset / half_range).atanh()
        return (z + shift).tanh() * half_range - offset
