"""Self-attention over tokens that are spread over ranks (context parallelism).

Two ways, named as Megatron-Core's ``cp_comm_type`` names them:

- ``a2a``: all-to-all (DeepSpeed-Ulysses, arXiv 2309.14509). Every rank trades its share of the
  tokens with all heads for all tokens with its share of the heads, attends, and trades back.
- ``p2p``: a ring (arXiv 2310.01889). Keys and values go round; each rank attends from its own
  queries to the block that is passing and merges the blocks' results by their log-sum-exp
  (:mod:`~nemo_cosmos.models.common.attention.ring`).

Without a mask the order of tokens does not matter: any equal shares of them will do. Under any
other mask the sequence is cut into twice as many chunks as there are ranks, and rank r of P holds
the chunks r and 2P-1-r (*zigzag*, as Transformer Engine has it): early tokens see little and late
ones much, and so every rank has the same work in every step of the ring.

Shape suffixes: L tokens of this rank, B batch, H heads on this rank, G groups of heads that share
keys and values, D head dimension, P ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.mappings import all_to_all
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.attention.core import LocalCoreAttention
from nemo_cosmos.models.common.attention.masks import FULL, Mask, RunMask, TreeMask
from nemo_cosmos.models.common.attention.ring import ring_attention
from nemo_cosmos.models.common.packed import Boundaries

KINDS = ("a2a", "p2p")
DEFAULT_KIND = "p2p"
"""What Transformer Engine takes where ``cp_comm_type`` is not set."""


def check_kind(kind: str | None, num_heads: int, cp_size: int) -> str:
    """Return how to communicate, checked.

    Args:
        kind: ``"a2a"``, ``"p2p"``, or None for the default.
        num_heads: number of heads of a tensor-parallel rank.
        cp_size: number of context-parallel ranks.

    Raises:
        ConfigError: an unknown kind, or heads that do not divide for ``"a2a"``.
    """
    kind = kind or DEFAULT_KIND
    if kind not in KINDS:
        raise ConfigError(
            f"cp_comm_type='{kind}' is not one of {', '.join(KINDS)}, which the 'local' layer spec "
            "knows. Choose one of them, or layer_spec='transformer_engine'."
        )
    if kind == "a2a" and num_heads % cp_size:
        legal = [size for size in range(1, num_heads + 1) if num_heads % size == 0]
        raise ConfigError(
            f"cp_comm_type='a2a' shares the {num_heads} heads of a tensor-parallel rank over "
            f"{cp_size} context-parallel ranks, which does not divide. Set "
            f"context_parallel_size to one of {legal}, or cp_comm_type='p2p', which needs no heads "
            "to divide."
        )
    return kind


class ContextParallelAttention(LocalCoreAttention):
    """The ``core_attention`` of self-attention in a local layer spec.

    On one context-parallel rank it is :class:`LocalCoreAttention`. Cross-attention does not need
    it: the context is whole on every rank.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        cp_comm_type: str | None = None,
        softmax_scale: float | None = None,
        pg_collection: ProcessGroupCollection | None = None,
    ) -> None:
        super().__init__(
            config, layer_number, attn_mask_type, attention_type, softmax_scale=softmax_scale
        )
        groups = pg_collection or ProcessGroupCollection.use_mpu_process_groups(["cp"])
        self.cp_group = groups.cp
        num_heads = config.num_attention_heads // config.tensor_model_parallel_size
        self.kind = check_kind(cp_comm_type, num_heads, self.cp_group.size())
        if self.cp_group.size() > 1 and self.kind == "p2p" and self.dropout:
            raise ConfigError(
                f"attention_dropout={self.dropout} does not work with the ring of "
                "cp_comm_type='p2p'. Set it to 0, or cp_comm_type='a2a'."
            )

    def forward(
        self,
        q_LBHD: torch.Tensor,
        k_MBGD: torch.Tensor,
        v_MBGD: torch.Tensor,
        *,
        mask: Mask | None = None,
        offsets: Sequence[int] = (0,),
        packed_seq_params: Boundaries | None = None,
    ) -> torch.Tensor:
        """Attend from this rank's tokens to those of all; returns (L, B, H * D).

        See :meth:`LocalCoreAttention.forward`. Under a mask, tokens are in zigzag order.

        Raises:
            ConfigError: packed samples, a cache of keys and values, or tokens that cannot be in
                zigzag order, over several ranks.
        """
        mask = mask or self.mask
        if self.cp_group.size() == 1:
            return super().forward(
                q_LBHD,
                k_MBGD,
                v_MBGD,
                mask=mask,
                offsets=offsets,
                packed_seq_params=packed_seq_params,
            )
        if packed_seq_params is not None:
            raise ConfigError(
                "Packed samples cannot be spread over context-parallel ranks by the 'local' "
                "layer spec. Set context_parallel_size to 1, or do not pack."
            )
        if isinstance(mask, TreeMask) or tuple(offsets) != (0,):
            raise ConfigError(
                "A cache of keys and values cannot be spread over context-parallel ranks. Decode "
                "with context_parallel_size=1; tensor parallelism shares out the cache's heads."
            )
        if self.kind == "p2p":
            spans = own_spans(mask, len(q_LBHD), self.cp_group)
            scale = self.softmax_scale or q_LBHD.shape[-1] ** -0.5
            return ring_attention(
                q_LBHD, k_MBGD, v_MBGD, scale=scale, mask=mask, spans=spans, group=self.cp_group
            ).flatten(2)
        return self._attend_all_to_all(q_LBHD, k_MBGD, v_MBGD, mask)

    def _attend_all_to_all(
        self, q_LBHD: torch.Tensor, k_LBGD: torch.Tensor, v_LBGD: torch.Tensor, mask: RunMask
    ) -> torch.Tensor:
        """Attend with this rank's share of the heads to all tokens."""
        group = self.cp_group
        if k_LBGD.shape[2] % group.size():  # too few keys and values to trade: each head its own
            repeats = q_LBHD.shape[2] // k_LBGD.shape[2]
            k_LBGD, v_LBGD = (x.repeat_interleave(repeats, dim=2) for x in (k_LBGD, v_LBGD))
        if k_LBGD.shape[2] == q_LBHD.shape[2]:
            q, k, v = tokens_to_heads(torch.stack([q_LBHD, k_LBGD, v_LBGD]), group)
        else:
            (q,) = tokens_to_heads(q_LBHD[None], group)
            k, v = tokens_to_heads(torch.stack([k_LBGD, v_LBGD]), group)
        if mask == FULL:
            out = super().forward(q, k, v, mask=mask)
        else:
            check_zigzag(len(q_LBHD), group)
            order = zigzag_order(len(q), group.size(), q.device)
            natural = torch.empty_like(order)
            natural[order] = torch.arange(len(order), device=order.device)
            out = super().forward(q[natural], k[natural], v[natural], mask=mask)[order]
        return heads_to_tokens(out.unflatten(2, (-1, q_LBHD.shape[-1])), group).flatten(2)


def zigzag_order(num_tokens: int, num_ranks: int, device: torch.device) -> torch.Tensor:
    """Positions of a whole sequence's tokens, rank by rank as they are spread over ranks.

    Args:
        num_tokens: number of tokens of the sequence, a multiple of ``2 * num_ranks``.
        num_ranks: number of context-parallel ranks.
        device: where the result is.
    """
    chunks = torch.arange(num_tokens, device=device).chunk(2 * num_ranks)
    pairs = [(chunks[rank], chunks[2 * num_ranks - 1 - rank]) for rank in range(num_ranks)]
    return torch.cat([chunk for pair in pairs for chunk in pair])


def to_zigzag(x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Keep this rank's tokens of a whole sequence, which are along the first axis.

    Use it for everything that goes by token: embeddings, rotary tables, targets.

    Raises:
        ConfigError: the tokens do not divide into two chunks a rank.
    """
    if len(x) % (2 * group.size()):
        raise ConfigError(
            f"{len(x)} tokens do not divide into two chunks for each of {group.size()} "
            f"context-parallel ranks. Use a multiple of {2 * group.size()} tokens."
        )
    order = zigzag_order(len(x), group.size(), x.device)
    return x[order.chunk(group.size())[group.rank()]]


def check_zigzag(num_own: int, group: dist.ProcessGroup) -> None:
    """Require a rank's tokens to be two chunks.

    Raises:
        ConfigError: they are of an odd number.
    """
    if num_own % 2:
        raise ConfigError(
            f"Under a causal mask a context-parallel rank holds two chunks of the sequence, but it "
            f"was given {num_own} tokens. Use a multiple of {2 * group.size()} tokens."
        )


def own_spans(mask: RunMask, num_own: int, group: dist.ProcessGroup) -> list[list[range]]:
    """Positions of every rank's tokens, as runs; one run a rank where their order is no matter.

    Raises:
        ConfigError: the mask needs two chunks, and the tokens of a rank are odd.
    """
    size = group.size()
    if mask == FULL:
        return [[range(rank * num_own, (rank + 1) * num_own)] for rank in range(size)]
    check_zigzag(num_own, group)
    half = num_own // 2
    pairs = [(rank, 2 * size - 1 - rank) for rank in range(size)]
    return [[range(chunk * half, (chunk + 1) * half) for chunk in pair] for pair in pairs]


def tokens_to_heads(x_NLBHD: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Trade a share of the tokens for a share of the heads.

    Args:
        x_NLBHD: N tensors, such as queries, keys and values, with this rank's tokens.
        group: the P ranks.

    Returns:
        (N, P * L, B, H / P, D).
    """
    parts = x_NLBHD.unflatten(3, (group.size(), -1)).movedim(3, 0)
    return all_to_all(group, parts.contiguous()).movedim(0, 1).flatten(1, 2)


def heads_to_tokens(x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Undo :func:`tokens_to_heads`.

    Args:
        x: (P * L, B, H / P, D).
        group: the P ranks.

    Returns:
        (L, B, H, D).
    """
    parts = x.unflatten(0, (group.size(), -1))
    return all_to_all(group, parts.contiguous()).movedim(0, 2).flatten(2, 3)
