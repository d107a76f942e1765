"""Heads that score the codes behind the next one (Medusa, arXiv 2401.10774; Cosmos, section 5.3).

Shape suffixes: K heads, N tokens in any arrangement, E model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.options import MOST_HEADS, USUAL_HEADS


class Heads(nn.Module):
    """A residual layer with a SiLU for each head, before the network's own output layer.

    Where the network scores the code at the next place, head k, counted from 1, scores the one k
    places behind it. The heads share the output layer, by far the largest part of a head with one
    of its own. They begin as the network itself.

    Args:
        num_heads: K, at most 12.
        width: E.
        dtype: type of the weights.
        device: where they are.

    Raises:
        ConfigError: an impossible number of heads.
    """

    def __init__(
        self,
        num_heads: int,
        width: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= num_heads <= MOST_HEADS:
            raise ConfigError(
                f"{num_heads} heads are not 1 to {MOST_HEADS}. Choose 3 to {MOST_HEADS}; "
                f"{USUAL_HEADS} are usual."
            )
        weight_KEE = torch.zeros(num_heads, width, width, dtype=dtype, device=device)
        self.weight_KEE = nn.Parameter(weight_KEE)
        self.bias_KE = nn.Parameter(torch.zeros(num_heads, width, dtype=dtype, device=device))

    @property
    def num_heads(self) -> int:
        """K."""
        return len(self.weight_KEE)

    def forward(self, h_NE: Tensor) -> Tensor:
        """Return what the output layer scores, (K, N, E), of the network's normalised tokens."""
        return torch.stack([self.one(h_NE, head) for head in range(self.num_heads)])

    def one(self, h_NE: Tensor, head: int) -> Tensor:
        """Return one head's (N, E); heads are counted from 0 here."""
        return h_NE + F.silu(F.linear(h_NE, self.weight_KEE[head], self.bias_KE[head]))
