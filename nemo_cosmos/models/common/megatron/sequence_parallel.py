"""Sequence parallelism: between their matrix products, tensor-parallel ranks share the tokens.

Megatron's parallel layers gather the tokens before a product over heads or hidden channels and
scatter them after it. What a network does before the first layer, after the last one and beside the
layers has to know which tokens a rank holds; that is here.

Shape suffixes: L tokens, B batch, E model width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel.mappings import (
    gather_from_sequence_parallel_region,
    scatter_to_sequence_parallel_region,
)
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.utils import get_pg_rank, get_pg_size

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.fp8 import token_multiple


class SequenceParallel:
    """This rank's share of a sequence; without sequence parallelism, the whole sequence.

    Args:
        config: says whether sequence parallelism is on.
        tp_group: the tensor-parallel ranks, which share the tokens.
    """

    def __init__(self, config: TransformerConfig, tp_group: dist.ProcessGroup) -> None:
        self.is_on = bool(config.sequence_parallel)
        self.group = tp_group
        self.num_ranks = get_pg_size(tp_group) if self.is_on else 1
        self._multiple = self.num_ranks * token_multiple(config)

    def num_padding(self, num_tokens: int) -> int:
        """The tokens that a sequence lacks to divide over the ranks, and for FP8 products."""
        return -num_tokens % self._multiple

    def check_divides(self, num_tokens: int) -> None:
        """Require every rank to get an equal share of so many tokens.

        Raises:
            ConfigError: they do not divide over the ranks.
        """
        if num_tokens % self.num_ranks:
            raise ConfigError(
                f"{num_tokens} tokens do not divide over {self.num_ranks} sequence-parallel "
                "ranks. Turn sequence_parallel off, or choose a length and size of video, and a "
                f"length of text, whose tokens are a multiple of {self.num_ranks}."
            )

    def scatter(self, x_LBE: torch.Tensor) -> torch.Tensor:
        """Keep this rank's tokens of a sequence that every rank holds whole.

        In the backward pass the gradients of all shares are gathered.

        Raises:
            ConfigError: the tokens do not divide over the ranks.
        """
        if not self.is_on:
            return x_LBE
        self.check_divides(x_LBE.shape[0])
        return scatter_to_sequence_parallel_region(x_LBE, group=self.group)

    def gather(self, x_LBE: torch.Tensor) -> torch.Tensor:
        """Join the shares of all ranks; in the backward pass each keeps its own gradient."""
        if not self.is_on:
            return x_LBE
        # Every rank computes the same loss from the whole, so gradients are not to be summed.
        return gather_from_sequence_parallel_region(
            x_LBE, tensor_parallel_output_grad=False, group=self.group
        )

    def chunk(self, x: torch.Tensor) -> torch.Tensor:
        """This rank's slice along the first axis, which must divide over the ranks.

        A plain slice: the gradients of replicated parameters are summed over the ranks later, by
        their attribute ``sequence_parallel``.
        """
        return x.chunk(self.num_ranks)[get_pg_rank(self.group)] if self.is_on else x

    def counted_once(self, x: torch.Tensor) -> torch.Tensor:
        """The same tensor, for one whose whole gradient every rank will hold.

        :meth:`scatter` gives each rank all of the gradient. Where it flows on into parameters whose
        gradients are summed over the ranks, as what embeds a control, each must add its share.
        """
        return _share_of_gradient(x, self.num_ranks) if self.is_on else x


class _ShareOfGradient(torch.autograd.Function):
    """Identity, whose backward pass divides by the number of ranks."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, num_ranks: int) -> torch.Tensor:
        ctx.num_ranks = num_ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient / ctx.num_ranks, None


def _share_of_gradient(x: torch.Tensor, num_ranks: int) -> torch.Tensor:
    shared: torch.Tensor = _ShareOfGradient.apply(x, num_ranks)
    return shared
