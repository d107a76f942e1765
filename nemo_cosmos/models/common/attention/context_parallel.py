"""Self-attention over tokens that are spread over processes (context parallelism).

Two ways, named as Megatron-Core's ``cp_comm_type`` names them:

- ``a2a``: all-to-all (DeepSpeed-Ulysses, arXiv 2309.14509). Every process trades its share of the
  tokens with all heads for all tokens with its share of the heads, attends, and trades back.
- ``p2p``: a ring (arXiv 2310.01889). Keys and values go round; each process attends from its own
  queries to the block that is passing and merges the blocks' results by their log-sum-exp. The
  backward pass sends them round once more, and with each block the gradient that it gathers, so
  that no matrix of tokens by tokens is kept.

Without a mask the order of tokens does not matter: any equal shares of them will do.

Shape suffixes: L tokens of this process, B batch, H heads on this process, D head dimension, P
processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.mappings import all_to_all
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.attention.core import LocalCoreAttention
from nemo_cosmos.models.common.packed import Boundaries

KINDS = ("a2a", "p2p")
DEFAULT_KIND = "p2p"
"""What Transformer Engine takes where ``cp_comm_type`` is not set."""


def check_kind(kind: str | None, num_heads: int, cp_size: int) -> str:
    """Return how to communicate, checked.

    Args:
        kind: ``"a2a"``, ``"p2p"``, or None for the default.
        num_heads: of a tensor-parallel process.
        cp_size: context-parallel processes.

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
            f"cp_comm_type='a2a' shares the {num_heads} heads of a tensor-parallel process over "
            f"{cp_size} context-parallel processes, which does not divide. Set "
            f"context_parallel_size to one of {legal}, or cp_comm_type='p2p', which needs no heads "
            "to divide."
        )
    return kind


class ContextParallelAttention(LocalCoreAttention):
    """The ``core_attention`` of self-attention in a local layer spec.

    On one context-parallel process it is :class:`LocalCoreAttention`. Cross-attention does not need
    it: the context is whole on every process.
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
        k_MBHD: torch.Tensor,
        v_MBHD: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        packed_seq_params: Boundaries | None = None,
        **unused: Any,
    ) -> torch.Tensor:
        """Attend from this process's tokens to those of all; returns (L, B, H * D)."""
        if self.cp_group.size() == 1:
            return super().forward(
                q_LBHD, k_MBHD, v_MBHD, attention_mask, packed_seq_params=packed_seq_params
            )
        if packed_seq_params is not None:
            raise ConfigError(
                "Packed samples cannot be spread over context-parallel processes by the 'local' "
                "layer spec. Set context_parallel_size to 1, or do not pack."
            )
        if k_MBHD.shape[2] != q_LBHD.shape[2]:  # grouped queries share keys and values
            repeats = q_LBHD.shape[2] // k_MBHD.shape[2]
            k_MBHD, v_MBHD = (x.repeat_interleave(repeats, dim=2) for x in (k_MBHD, v_MBHD))
        if self.kind == "p2p":
            scale = self.softmax_scale or q_LBHD.shape[-1] ** -0.5
            q_BHLD, k_BHLD, v_BHLD = (x.permute(1, 2, 0, 3) for x in (q_LBHD, k_MBHD, v_MBHD))
            out_BHLD = _RingAttention.apply(q_BHLD, k_BHLD, v_BHLD, scale, self.cp_group)
            return out_BHLD.permute(2, 0, 1, 3).flatten(2)
        q, k, v = tokens_to_heads(torch.stack([q_LBHD, k_MBHD, v_MBHD]), self.cp_group)
        out = super().forward(q, k, v, attention_mask)
        return heads_to_tokens(out.unflatten(2, (-1, q_LBHD.shape[-1])), self.cp_group).flatten(2)


def tokens_to_heads(x_NLBHD: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Trade a share of the tokens for a share of the heads.

    Args:
        x_NLBHD: N tensors, such as queries, keys and values, with this process's tokens.
        group: the P processes.

    Returns:
        (N, P * L, B, H / P, D).
    """
    parts = x_NLBHD.unflatten(3, (group.size(), -1)).movedim(3, 0)
    return all_to_all(group, parts.contiguous()).movedim(0, 1).flatten(1, 2)


def heads_to_tokens(x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Undo :func:`tokens_to_heads`.

    Args:
        x: (P * L, B, H / P, D).
        group: the P processes.

    Returns:
        (L, B, H, D).
    """
    parts = x.unflatten(0, (group.size(), -1))
    return all_to_all(group, parts.contiguous()).movedim(0, 2).flatten(2, 3)


class _RingAttention(torch.autograd.Function):
    """Attention to the keys and values of all processes, a block at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float,
        group: dist.ProcessGroup,
    ) -> torch.Tensor:
        own_kv = kv = torch.stack([k, v])
        arriving = _Passing(kv, group)
        out, lse = _attend(q, kv, scale)
        for step in range(1, group.size()):
            kv = arriving.wait()
            if step + 1 < group.size():
                arriving = _Passing(kv, group)  # goes on while this process attends to it
            out, lse = _merge(out, lse, *_attend(q, kv, scale))
        out = out.to(q.dtype)
        ctx.save_for_backward(q, own_kv, out, lse)
        ctx.scale, ctx.group = scale, group
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad_out,) = grads
        q, kv, out, lse = ctx.saved_tensors
        # The gradient of the scores is p * (dp - delta), of all blocks alike.
        delta = (grad_out.float() * out.float()).sum(-1, keepdim=True)
        grad_q = torch.zeros_like(q, dtype=torch.float32)
        grad_kv = torch.zeros_like(kv, dtype=torch.float32)
        for step in range(ctx.group.size()):
            arriving = _Passing(kv, ctx.group) if step + 1 < ctx.group.size() else None
            k, v = kv
            p = (_scores(q, k, ctx.scale) - lse).exp()
            grad_scores = p * (grad_out @ v.mT - delta)
            grad_q += grad_scores.to(q.dtype) @ k * ctx.scale
            grad_kv[0] += grad_scores.to(q.dtype).mT @ q * ctx.scale
            grad_kv[1] += p.to(grad_out.dtype).mT @ grad_out
            # Each block's gradient travels with it, and is home after a whole round.
            grad_kv = _Passing(grad_kv, ctx.group).wait()
            kv = kv if arriving is None else arriving.wait()
        return grad_q.to(q.dtype), grad_kv[0].to(q.dtype), grad_kv[1].to(q.dtype), None, None


def _scores(q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
    return (q @ k.mT).float() * scale


def _attend(q: torch.Tensor, kv: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to one block: the result, float32, and the log-sum-exp of its scores."""
    k, v = kv
    scores = _scores(q, k, scale)
    lse = scores.logsumexp(-1, keepdim=True)
    return ((scores - lse).exp().to(v.dtype) @ v).float(), lse


def _merge(
    out: torch.Tensor, lse: torch.Tensor, out_more: torch.Tensor, lse_more: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make one softmax of two blocks'."""
    total = torch.logaddexp(lse, lse_more)
    return out * (lse - total).exp() + out_more * (lse_more - total).exp(), total


class _Passing:
    """A tensor on its way to the next process, while the previous one's arrives."""

    def __init__(self, x: torch.Tensor, group: dist.ProcessGroup) -> None:
        size, rank = group.size(), group.rank()
        ranks = dist.get_process_group_ranks(group)
        self.sent, self.arriving = x.contiguous(), torch.empty_like(x.contiguous())
        self.works = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, self.sent, ranks[(rank + 1) % size], group),
                dist.P2POp(dist.irecv, self.arriving, ranks[(rank - 1) % size], group),
            ]
        )

    def wait(self) -> torch.Tensor:
        """What the previous process sent."""
        for work in self.works:
            work.wait()
        return self.arriving
