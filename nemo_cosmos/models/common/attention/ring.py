"""Ring attention: keys and values go round the ranks, block by block (arXiv 2310.01889).

Each rank attends from its own queries to the block that is passing and merges the blocks' results
by their log-sum-exp. The backward pass sends the blocks round again, and with each the gradient
that it collects, so that no matrix of all tokens by all tokens is ever kept.

A rank's tokens are one or more runs of positions (*spans*). Under a mask a pair of spans of which
nothing is visible costs nothing, and one that is visible as a whole needs no comparison.

Heads that share keys and values (grouped queries) become further rows of one query matrix: keys
travel once for a group, and their gradient is summed by the matrix product.

Shape suffixes: L tokens of this rank, B batch, H heads, G groups of heads, R heads of a group,
D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from nemo_cosmos.models.common.attention.masks import Mask, Visibility


def ring_attention(
    q_LBHD: torch.Tensor,
    k_LBGD: torch.Tensor,
    v_LBGD: torch.Tensor,
    *,
    scale: float,
    mask: Mask,
    spans: Sequence[Sequence[range]],
    group: dist.ProcessGroup,
) -> torch.Tensor:
    """Attend from this rank's tokens to those of all ranks.

    Args:
        q_LBHD: queries.
        k_LBGD: keys of the same tokens, of H heads or of groups of heads.
        v_LBGD: values.
        scale: factor of the scores.
        mask: which keys a query sees, by their positions.
        spans: positions of each rank's tokens, run by run in the order of its tokens.
        group: the ranks.

    Returns:
        (L, B, H, D).
    """
    num_groups = k_LBGD.shape[2]
    q_BGRLD = q_LBHD.unflatten(2, (num_groups, -1)).permute(1, 2, 3, 0, 4)
    k_BGLD, v_BGLD = (x.permute(1, 2, 0, 3) for x in (k_LBGD, v_LBGD))
    ring = _Ring(scale, mask, spans, group)
    out_BGRLD: torch.Tensor = _RingAttention.apply(q_BGRLD, k_BGLD, v_BGLD, ring)
    return out_BGRLD.permute(3, 0, 1, 2, 4).flatten(2, 3)


@dataclass(frozen=True)
class _Ring:
    """What stays the same in every step."""

    scale: float
    mask: Mask
    spans: Sequence[Sequence[range]]
    group: dist.ProcessGroup

    def pairs(self, step: int, device: torch.device) -> Iterator[_Pair]:
        """The spans of queries and keys that meet in a step, except where nothing is visible."""
        rank, size = self.group.rank(), self.group.size()
        for q_rows, q_span in _rows(self.spans[rank]):
            for k_rows, k_span in _rows(self.spans[(rank - step) % size]):
                visibility = self.mask.visibility(q_span, k_span)
                if visibility is Visibility.NOTHING:
                    continue
                seen = None
                if visibility is Visibility.SOME:
                    seen = self.mask.is_visible(
                        *(torch.arange(s.start, s.stop, device=device) for s in (q_span, k_span))
                    )
                yield _Pair(q_rows, k_rows, seen)


@dataclass(frozen=True)
class _Pair:
    """A span of queries and one of keys.

    Attributes:
        q: rows of the queries.
        k: rows of the keys.
        seen: (queries, keys), True where a query sees a key; None where all see all.
    """

    q: slice
    k: slice
    seen: torch.Tensor | None

    def scores(self, q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
        """Scores (B, G, R * queries, keys) in float32, minus infinity where a key is hidden."""
        scores = (q.flatten(2, 3) @ k.mT).float() * scale
        if self.seen is None:
            return scores
        by_head = scores.unflatten(2, (-1, len(self.seen)))
        return by_head.masked_fill(~self.seen, float("-inf")).flatten(2, 3)


class _RingAttention(torch.autograd.Function):
    """Attention to the keys and values of all ranks, a block at a time."""

    @staticmethod
    def forward(
        ctx: Any, q_BGRLD: torch.Tensor, k_BGLD: torch.Tensor, v_BGLD: torch.Tensor, ring: _Ring
    ) -> torch.Tensor:
        q, group = q_BGRLD, ring.group
        own_kv = kv = torch.stack([k_BGLD, v_BGLD])
        out = torch.zeros_like(q, dtype=torch.float32)
        # The lowest number instead of minus infinity: differences of infinities are no numbers.
        lse = out.new_full((*q.shape[:-1], 1), torch.finfo(torch.float32).min)
        for step in range(group.size()):
            # The next block travels while this rank attends to the present one.
            arriving = _Passing(kv, group) if step + 1 < group.size() else None
            for pair in ring.pairs(step, q.device):
                rows = out[..., pair.q, :], lse[..., pair.q, :]
                more = _attend(q[..., pair.q, :], kv[..., pair.k, :], pair, ring.scale)
                out[..., pair.q, :], lse[..., pair.q, :] = _merge(*rows, *more)
            kv = kv if arriving is None else arriving.wait()
        out = out.to(q.dtype)
        ctx.save_for_backward(q, own_kv, out, lse)
        ctx.ring = ring
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad_out,) = grads
        q, kv, out, lse = ctx.saved_tensors
        ring: _Ring = ctx.ring
        # The gradient of the scores is p * (dp - delta), in all blocks alike.
        delta = (grad_out.float() * out.float()).sum(-1, keepdim=True)
        grad_q = torch.zeros_like(q, dtype=torch.float32)
        grad_kv = torch.zeros_like(kv, dtype=torch.float32)
        for step in range(ring.group.size()):
            arriving = _Passing(kv, ring.group) if step + 1 < ring.group.size() else None
            for pair in ring.pairs(step, q.device):
                k, v = kv[..., pair.k, :]
                q_rows, grad_rows, lse_rows, delta_rows = (
                    x[..., pair.q, :].flatten(2, 3) for x in (q, grad_out, lse, delta)
                )
                p = (pair.scores(q[..., pair.q, :], k, ring.scale) - lse_rows).exp()
                grad_scores = (p * (grad_rows @ v.mT - delta_rows)).to(q.dtype)
                shape = grad_q[..., pair.q, :].shape
                grad_q[..., pair.q, :] += (grad_scores @ k * ring.scale).view(shape)
                grad_kv[0][..., pair.k, :] += grad_scores.mT @ q_rows * ring.scale
                grad_kv[1][..., pair.k, :] += p.to(grad_out.dtype).mT @ grad_rows
            # Each block's gradient travels with it, and is home after a whole round.
            grad_kv = _Passing(grad_kv, ring.group).wait()
            kv = kv if arriving is None else arriving.wait()
        return grad_q.to(q.dtype), grad_kv[0].to(q.dtype), grad_kv[1].to(q.dtype), None


def _rows(spans: Sequence[range]) -> Iterator[tuple[slice, range]]:
    """Each run of positions with the rows of a rank's tensors that hold it."""
    start = 0
    for span in spans:
        yield slice(start, start + len(span)), span
        start += len(span)


def _attend(
    q: torch.Tensor, kv: torch.Tensor, pair: _Pair, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to one block: the result, float32, and the log-sum-exp of its scores."""
    k, v = kv
    scores = pair.scores(q, k, scale)
    lse = scores.logsumexp(-1, keepdim=True)
    if pair.seen is not None:  # a query may see none of these keys
        lse = lse.clamp(min=torch.finfo(torch.float32).min)
    out = ((scores - lse).exp().to(v.dtype) @ v).float()
    heads = (q.shape[2], q.shape[3])
    return out.unflatten(2, heads), lse.unflatten(2, heads)


def _merge(
    out: torch.Tensor, lse: torch.Tensor, out_more: torch.Tensor, lse_more: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make one softmax of two blocks'."""
    total = torch.logaddexp(lse, lse_more)
    return out * (lse - total).exp() + out_more * (lse_more - total).exp(), total


class _Passing:
    """A tensor on its way to the next rank, while the previous rank's arrives."""

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
        """Return what the previous rank sent."""
        for work in self.works:
            work.wait()
        return self.arriving
