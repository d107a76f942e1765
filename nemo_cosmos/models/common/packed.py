"""Where the samples of a packed sequence begin and end ("THD"), as attention needs it.

The samples lie end to end along the token axis; attention stays inside each. Outside the network, a
pack is a list of batches of one, so that a sample in it is treated as any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from torch.nn import functional as F

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


def split_samples(pack: Mapping[str, Any], content: str) -> list[dict[str, Any]]:
    """The samples of a pack, each as a batch of one.

    Args:
        pack: tensors with one row a sample, or lists with one entry.
        content: name of an entry that every pack has.
    """

    def sample(index: int) -> dict[str, Any]:
        values = {name: entry[index] for name, entry in pack.items()}
        return {
            name: value[None] if isinstance(value, torch.Tensor) else [value]
            for name, value in values.items()
        }

    return [sample(index) for index in range(len(pack[content]))]


def end_to_end(tables: Sequence[torch.Tensor | None], num_padding: int) -> torch.Tensor:
    """Join tables of tokens, tokens first, with zeros for those that belong to no sample.

    Args:
        tables: the table of each sample; where one has none, all lack it, and nobody asks.
        num_padding: tokens behind the last sample that belong to none.
    """
    whole = torch.cat([table for table in tables if table is not None])
    return F.pad(whole, (0, 0) * (whole.dim() - 1) + (0, num_padding))


def _cumulative(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return upload(ends, device)
