"""Where the samples of a packed sequence begin and end ("THD"), as attention needs it.

The samples lie end to end along the token axis; attention stays inside each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from megatron.core.packed_seq_params import PackedSeqParams

from nemo_cosmos.platform import upload


@dataclass
class Boundaries(PackedSeqParams):
    """Megatron's boundaries for Transformer Engine's kernels, with the lengths on the host.

    Attributes:
        lengths_q: number of each sample's queries.
        lengths_kv: number of each sample's keys and values.
    """

    lengths_q: tuple[int, ...] = ()
    lengths_kv: tuple[int, ...] = ()

    @classmethod
    def of(cls, lengths_q: Sequence[int], lengths_kv: Sequence[int], device: torch.device) -> Self:
        """Lay samples end to end.

        Args:
            lengths_q: number of each sample's queries.
            lengths_kv: number of each sample's keys and values.
            device: where attention runs.
        """
        return cls(
            qkv_format="thd",
            cu_seqlens_q=_cumulative(lengths_q, device),
            cu_seqlens_kv=_cumulative(lengths_kv, device),
            max_seqlen_q=max(lengths_q),
            max_seqlen_kv=max(lengths_kv),
            lengths_q=tuple(lengths_q),
            lengths_kv=tuple(lengths_kv),
        )


class Packing(NamedTuple):
    """The boundaries in both attentions of a layer.

    Attributes:
        tokens: boundaries of the samples' tokens, for self-attention.
        context: boundaries of the tokens and of their context, for cross-attention.
    """

    tokens: Boundaries
    context: Boundaries

    @classmethod
    def of(
        cls,
        lengths: Sequence[int],
        context_lengths: Sequence[int],
        device: torch.device,
        num_padding: int = 0,
    ) -> Self:
        """Lay samples end to end.

        Args:
            lengths: number of each sample's tokens.
            context_lengths: number of each sample's context tokens.
            device: where attention runs.
            num_padding: number of tokens behind the last sample that belong to none. They see each
                other and, since attention to nothing is undefined, the last sample's context.
        """
        padding = [num_padding] if num_padding else []
        in_self = [*lengths, *padding]
        in_cross = [*lengths[:-1], lengths[-1] + num_padding]
        return cls(
            Boundaries.of(in_self, in_self, device),
            Boundaries.of(in_cross, context_lengths, device),
        )


def _cumulative(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return upload(ends, device)
