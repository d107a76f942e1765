"""Ring attention: keys and values go round the ranks, block by block (arXiv 2310.01889).

Each rank attends from its own queries to the block that is passing and merges the blocks' results
by their log-sum-exp. The backward pass sends the blocks round again, and with each the gradient
that it collects, so that no matrix of all tokens by all tokens is ever kept.

A rank's tokens are one or more runs of positions (*spans*). Under a mask a pair of spans of which
nothing is visible costs nothing. One that is visible as a whole, or a triangle, is the device's
flash attention. Any other, and all of them where the device has none, is cut into tiles, whose
scores are computed in float32: nothing is ever laid out that has the size of tokens by tokens.

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
from torch import Tensor

from nemo_cosmos.models.common.attention.masks import CAUSAL, RunMask, Visibility
from nemo_cosmos.platform import autocast, flash

TILE = 1024
"""Queries and keys of a tile."""
LEAST = torch.finfo(torch.float32).min
"""Stands for minus infinity: differences of infinities are no numbers."""


def ring_attention(
    q_LBHD: Tensor,
    k_LBGD: Tensor,
    v_LBGD: Tensor,
    *,
    scale: float,
    mask: RunMask,
    spans: Sequence[Sequence[range]],
    group: dist.ProcessGroup,
) -> Tensor:
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
    out_BGRLD: Tensor = _RingAttention.apply(q_BGRLD, k_BGLD, v_BGLD, ring)
    return out_BGRLD.permute(3, 0, 1, 2, 4).flatten(2, 3)


@dataclass(frozen=True)
class _Ring:
    """What stays the same in every step."""

    scale: float
    mask: RunMask
    spans: Sequence[Sequence[range]]
    group: dist.ProcessGroup

    def pairs(self, step: int, *, fused: bool) -> Iterator[_Fused | _Tile]:
        """What meets in a step, except where nothing is visible.

        Args:
            step: number of the step.
            fused: whether the device has flash attention for these queries.
        """
        rank, size = self.group.rank(), self.group.size()
        for q_start, q_span in _starts(self.spans[rank]):
            for k_start, k_span in _starts(self.spans[(rank - step) % size]):
                visibility = self.mask.visibility(q_span, k_span)
                is_triangle = self.mask == CAUSAL and q_span == k_span
                if fused and (is_triangle or visibility is Visibility.ALL):
                    rows = (_slice(q_start, q_span), _slice(k_start, k_span))
                    yield _Fused(*rows, self.scale, is_triangle)
                elif visibility is not Visibility.NOTHING:
                    yield from self._tiles(q_start, q_span, k_start, k_span)

    def _tiles(self, q_start: int, q_span: range, k_start: int, k_span: range) -> Iterator[_Tile]:
        for q_at in range(0, len(q_span), TILE):
            for k_at in range(0, len(k_span), TILE):
                queries, keys = q_span[q_at : q_at + TILE], k_span[k_at : k_at + TILE]
                visibility = self.mask.visibility(queries, keys)
                if visibility is Visibility.NOTHING:
                    continue
                rows = (_slice(q_start + q_at, queries), _slice(k_start + k_at, keys))
                hidden_by = self.mask if visibility is Visibility.SOME else None
                yield _Tile(*rows, self.scale, hidden_by, queries, keys)


@dataclass(frozen=True)
class _Fused:
    """Queries and keys that the device's flash attention takes.

    Attributes:
        q: rows of the queries.
        k: rows of the keys.
        scale: factor of the scores.
        is_triangle: whether query ``i`` sees the keys 0 to ``i``; else all see all.
    """

    q: slice
    k: slice
    scale: float
    is_triangle: bool

    def attend(self, q_BGRLD: Tensor, k_BGMD: Tensor, v_BGMD: Tensor) -> flash.Attended:
        """Attend; the result (B, G, R, L, D) and the log-sum-exp (B, G, R, L)."""
        q, k, v = self._heads(q_BGRLD, k_BGMD, v_BGMD)
        found = flash.attend(q, k, v, scale=self.scale, is_triangle=self.is_triangle)
        shape = q_BGRLD.shape
        return flash.Attended(found.out.view(shape), found.lse.reshape(shape[:-1]), found.rest)

    def gradients(
        self,
        grad_BGRLD: Tensor,
        q_BGRLD: Tensor,
        k_BGMD: Tensor,
        v_BGMD: Tensor,
        attended: flash.Attended,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of queries, keys and values."""
        q, k, v = self._heads(q_BGRLD, k_BGMD, v_BGMD)
        grad, out = (x.reshape(q.shape) for x in (grad_BGRLD, attended.out))
        whole = flash.Attended(out, attended.lse.reshape(q.shape[:-1]), attended.rest)
        grad_q, *grads = flash.gradients(
            grad, q, k, v, whole, scale=self.scale, is_triangle=self.is_triangle
        )
        if self.is_triangle:  # each head had keys of its own
            shape = (*q_BGRLD.shape[:3], *k_BGMD.shape[2:])
            grads = [grad.view(shape).sum(2) for grad in grads]
        grad_k, grad_v = grads
        return grad_q.reshape(q_BGRLD.shape), grad_k, grad_v

    def _heads(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of as many heads, (B, heads, tokens, D)."""
        if not self.is_triangle:
            return q.flatten(2, 3), k, v
        heads = q.shape[2]
        k, v = (x[:, :, None].expand(-1, -1, heads, -1, -1).flatten(1, 2) for x in (k, v))
        return q.flatten(1, 2), k, v


@dataclass(frozen=True)
class _Tile:
    """A few queries and keys, whose scores are laid out in float32.

    Attributes:
        q: rows of the queries.
        k: rows of the keys.
        scale: factor of the scores.
        mask: what hides some of these keys from some of these queries; None where all see all.
        queries: positions of the queries.
        keys: positions of the keys.
    """

    q: slice
    k: slice
    scale: float
    mask: RunMask | None
    queries: range
    keys: range

    def attend(self, q_BGRLD: Tensor, k_BGMD: Tensor, v_BGMD: Tensor) -> flash.Attended:
        """Attend; the result (B, G, R, L, D) and the log-sum-exp (B, G, R, L), in float32."""
        scores = self._scores(q_BGRLD, k_BGMD)
        lse = scores.logsumexp(-1, keepdim=True)
        if self.mask is not None:  # a query may see none of these keys
            lse = lse.clamp(min=LEAST)
        out = ((scores - lse).exp() @ v_BGMD.float()).view(q_BGRLD.shape)
        return flash.Attended(out, lse.view(q_BGRLD.shape[:-1]), ())

    def gradients(
        self,
        grad_BGRLD: Tensor,
        q_BGRLD: Tensor,
        k_BGMD: Tensor,
        v_BGMD: Tensor,
        attended: flash.Attended,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of queries, keys and values, in float32."""
        q, grad, out = (x.flatten(2, 3).float() for x in (q_BGRLD, grad_BGRLD, attended.out))
        p = (self._scores(q_BGRLD, k_BGMD) - attended.lse.flatten(2)[..., None]).exp()
        of_p = grad @ v_BGMD.float().mT
        # The gradient of the scores is p * (dp - delta), with the same delta in all blocks.
        of_scores = p * (of_p - (grad * out).sum(-1, keepdim=True)) * self.scale
        of_q = (of_scores @ k_BGMD.float()).view(q_BGRLD.shape)
        return of_q, of_scores.mT @ q, p.mT @ grad

    def _scores(self, q_BGRLD: Tensor, k_BGMD: Tensor) -> Tensor:
        """Scores (B, G, R * L, M), minus infinity where a key is hidden."""
        scores = q_BGRLD.flatten(2, 3).float() @ k_BGMD.float().mT * self.scale
        if self.mask is None:
            return scores
        positions = (
            torch.arange(each.start, each.stop, device=scores.device)
            for each in (self.queries, self.keys)
        )
        hidden = ~self.mask.is_visible(*positions)
        return (
            scores.unflatten(2, (-1, len(hidden))).masked_fill(hidden, float("-inf")).flatten(2, 3)
        )


class _RingAttention(torch.autograd.Function):
    """Attention to the keys and values of all ranks, a block at a time."""

    @staticmethod
    def forward(ctx: Any, q_BGRLD: Tensor, k_BGLD: Tensor, v_BGLD: Tensor, ring: _Ring) -> Tensor:
        q, group = q_BGRLD, ring.group
        own_kv = kv = torch.stack([k_BGLD, v_BGLD])
        out = torch.zeros_like(q, dtype=torch.float32)
        lse = out.new_full(q.shape[:-1], LEAST)
        ctx.rests = []
        with autocast(None):
            for step in range(group.size()):
                # The next block travels while this rank attends to the present one.
                arriving = _Passing(kv, group) if step + 1 < group.size() else None
                for pair in ring.pairs(step, fused=flash.is_available(q)):
                    k, v = kv[..., pair.k, :]
                    more = pair.attend(q[..., pair.q, :], k, v)
                    rows = out[..., pair.q, :], lse[..., pair.q]
                    out[..., pair.q, :], lse[..., pair.q] = _merge(*rows, more.out, more.lse)
                    ctx.rests.append(more.rest)
                kv = kv if arriving is None else arriving.wait()
        out = out.to(q.dtype)
        ctx.save_for_backward(q, own_kv, out, lse)
        ctx.ring = ring
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_out,) = grads
        q, kv, out, lse = ctx.saved_tensors
        ring: _Ring = ctx.ring
        rests = iter(ctx.rests)
        grad_q = torch.zeros_like(q, dtype=torch.float32)
        grad_kv = torch.zeros_like(kv, dtype=torch.float32)
        with autocast(None):
            for step in range(ring.group.size()):
                arriving = _Passing(kv, ring.group) if step + 1 < ring.group.size() else None
                for pair in ring.pairs(step, fused=flash.is_available(q)):
                    rows = (slice(None),) * 3 + (pair.q,)
                    attended = flash.Attended(out[rows], lse[rows], next(rests))
                    k, v = kv[..., pair.k, :]
                    found = pair.gradients(grad_out[rows], q[rows], k, v, attended)
                    grad_q[rows] += found[0]
                    for of_kv, more in zip(grad_kv, found[1:], strict=True):
                        of_kv[..., pair.k, :] += more
                # Each block's gradient travels with it, and is home after a whole round.
                grad_kv = _Passing(grad_kv, ring.group).wait()
                kv = kv if arriving is None else arriving.wait()
        return grad_q.to(q.dtype), grad_kv[0].to(q.dtype), grad_kv[1].to(q.dtype), None


def _starts(spans: Sequence[range]) -> Iterator[tuple[int, range]]:
    """Each run of positions with the first row of a rank's tensors that holds it."""
    start = 0
    for span in spans:
        yield start, span
        start += len(span)


def _slice(start: int, span: range) -> slice:
    return slice(start, start + len(span))


def _merge(out: Tensor, lse: Tensor, out_more: Tensor, lse_more: Tensor) -> tuple[Tensor, Tensor]:
    """Make one softmax of two blocks'."""
    total = torch.logaddexp(lse, lse_more)
    share, share_more = ((each - total).exp()[..., None] for each in (lse, lse_more))
    return out * share + out_more * share_more, total


class _Passing:
    """A tensor on its way to the next rank, while the previous rank's arrives."""

    def __init__(self, x: Tensor, group: dist.ProcessGroup) -> None:
        size, rank = group.size(), group.rank()
        ranks = dist.get_process_group_ranks(group)
        self.sent, self.arriving = x.contiguous(), torch.empty_like(x.contiguous())
        self.works = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, self.sent, ranks[(rank + 1) % size], group),
                dist.P2POp(dist.irecv, self.arriving, ranks[(rank - 1) % size], group),
            ]
        )

    def wait(self) -> Tensor:
        """Return what the previous rank sent."""
        for work in self.works:
            work.wait()
        return self.arriving
