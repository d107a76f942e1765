"""Attention over tokens that are spread over ranks equals attention over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from nemo_cosmos.models.common.attention.masks import (
    CAUSAL,
    FULL,
    BlockCausalMask,
    CausalMask,
    Mask,
)
from nemo_cosmos.testing.processes import ProcessPool

MASKS = [FULL, CAUSAL, CausalMask(window=5), BlockCausalMask(3), BlockCausalMask(2, 3)]


def attend(
    kind: str, mask: Mask, groups: int, dtype: torch.dtype, tile: int | None = None
) -> dict[str, float]:
    """Largest errors of result and gradients against one process, relative to their size.

    Args:
        kind: how the processes communicate.
        mask: which keys a query sees.
        groups: heads that share keys and values.
        dtype: type of queries, keys and values.
        tile: computes the ring by tiles of this size, as where there is no flash attention.
    """
    from megatron.core.transformer.enums import AttnMaskType

    from nemo_cosmos.models.common.attention.context_parallel import (
        ContextParallelAttention,
        to_zigzag,
    )
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(cp=int(os.environ["WORLD_SIZE"]))
    size, rank = dist.get_world_size(), dist.get_rank()
    config = DiTConfig(
        num_layers=1, hidden_size=48, num_attention_heads=4, context_parallel_size=size
    )
    # A layer spec says "causal"; the other masks come with the call.
    by_spec = AttnMaskType.causal if mask == CAUSAL else AttnMaskType.no_mask
    attention = ContextParallelAttention(config, 1, by_spec, "self", cp_comm_type=kind)
    generator = torch.Generator().manual_seed(0)
    tokens = 6 * size
    q, k, v, grad = (
        torch.randn(tokens, 2, heads, 12, generator=generator).to(dtype)
        for heads in (4, 4 // groups, 4 // groups, 4)
    )
    q = q * 4  # so that the softmax is not flat
    whole = [x.clone().requires_grad_() for x in (q, k, v)]
    keys, values = (x.repeat_interleave(groups, dim=2) for x in whole[1:])
    position = torch.arange(tokens)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        *(x.permute(1, 2, 0, 3).double() for x in (whole[0], keys, values)),
        attn_mask=mask.is_visible(position, position),
    ).permute(2, 0, 1, 3)
    wanted.backward(grad.double())

    def part_of(x: torch.Tensor) -> torch.Tensor:
        return x.chunk(size)[rank] if mask == FULL else to_zigzag(x, attention.cp_group)

    own = [part_of(x.detach()).clone().requires_grad_() for x in whole]
    with nullcontext() if tile is None else tiles_alone(tile):
        found = attention(*own, mask=None if mask == CAUSAL else mask)
        found.backward(part_of(grad).flatten(2))
    errors = {"out": _error(found, part_of(wanted).flatten(2))}
    for name, mine, reference in zip("qkv", own, whole, strict=True):
        errors[name] = _error(mine.grad, part_of(reference.grad))
    return errors


@contextmanager
def tiles_alone(size: int) -> Iterator[None]:
    from nemo_cosmos.models.common.attention import ring
    from nemo_cosmos.platform import flash

    kept = ring.TILE, flash.is_available
    ring.TILE, flash.is_available = size, lambda q: False
    try:
        yield
    finally:
        ring.TILE, flash.is_available = kept


def _error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("kind", ["a2a", "p2p"])
@pytest.mark.parametrize("mask", MASKS, ids=repr)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_two_processes(kind: str, mask: Mask, groups: int, two_processes: ProcessPool) -> None:
    for errors in two_processes.run(attend, kind, mask, groups, torch.float32):
        assert all(error < 1e-5 for error in errors.values()), errors


@pytest.mark.parametrize("kind", ["a2a", "p2p"])
@pytest.mark.parametrize("mask", [FULL, CAUSAL], ids=repr)
def test_bfloat16(kind: str, mask: Mask, two_processes: ProcessPool) -> None:
    for errors in two_processes.run(attend, kind, mask, 2, torch.bfloat16):
        assert all(error < 3e-2 for error in errors.values()), errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_tiles_where_there_is_no_flash_attention(
    mask: Mask, dtype: torch.dtype, two_processes: ProcessPool
) -> None:
    """Computed in float32, so that bfloat16 rounds results alone, ours and the reference's."""
    limit = 1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    for errors in two_processes.run(attend, "p2p", mask, 2, dtype, tile=4):
        assert all(error < limit for error in errors.values()), errors


class LargestTensor(TorchDispatchMode):
    """Notes how many elements the largest tensor has that an operation returns."""

    num_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in torch.utils._pytree.tree_leaves(out):
            if isinstance(each, torch.Tensor):
                self.num_elements = max(self.num_elements, each.untyped_storage().nbytes() // 4)
        return out


def largest_of_the_ring(mask: Mask, tokens: int, by_tiles: bool) -> int:
    """Elements of the largest float32 tensor that attention and its gradients make."""
    from megatron.core import parallel_state

    from nemo_cosmos.models.common.attention.context_parallel import own_spans
    from nemo_cosmos.models.common.attention.ring import ring_attention
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(cp=2)
    group = parallel_state.get_context_parallel_group()
    q, k, v = (torch.ones(tokens, 1, 1, 16, requires_grad=True) for _ in range(3))
    largest = LargestTensor()
    with largest, tiles_alone(128) if by_tiles else nullcontext():
        spans = own_spans(mask, tokens, group)
        out = ring_attention(q, k, v, scale=0.25, mask=mask, spans=spans, group=group)
        out.sum().backward()
    return largest.num_elements


@pytest.mark.parametrize(
    ("mask", "by_tiles"), [(FULL, False), (CAUSAL, False), (FULL, True), (CausalMask(500), True)]
)
def test_no_scores_of_all_tokens_are_laid_out(
    mask: Mask, by_tiles: bool, two_processes: ProcessPool
) -> None:
    """The largest tensor holds this rank's keys and values, not tokens by tokens."""
    tokens = 1024
    for largest in two_processes.run(largest_of_the_ring, mask, tokens, by_tiles):
        assert largest <= 2 * tokens * 16, largest


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a2a", "p2p"])
@pytest.mark.parametrize("mask", MASKS, ids=repr)
@pytest.mark.parametrize("groups", [1, 2])
def test_four_processes(kind: str, mask: Mask, groups: int, four_processes: ProcessPool) -> None:
    for errors in four_processes.run(attend, kind, mask, groups, torch.float32):
        assert all(error < 1e-5 for error in errors.values()), errors


def work_of_the_ring() -> list[int]:
    """Scores that this rank computes in each step of the ring, under a causal mask."""
    from megatron.core import parallel_state

    from nemo_cosmos.models.common.attention.context_parallel import own_spans
    from nemo_cosmos.models.common.attention.ring import _Ring
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(cp=4)
    group = parallel_state.get_context_parallel_group()
    ring = _Ring(1.0, CAUSAL, own_spans(CAUSAL, 8, group), group)
    work = []
    for step in range(dist.get_world_size()):
        pairs = ring.pairs(step, fused=True)
        work.append(
            sum((pair.q.stop - pair.q.start) * (pair.k.stop - pair.k.start) for pair in pairs)
        )
    return work


@pytest.mark.slow
def test_every_rank_has_the_same_work_in_every_step(four_processes: ProcessPool) -> None:
    """Half of all scores, but for the first step, where the two diagonal chunks are whole."""
    for work in four_processes.run(work_of_the_ring):
        assert work == [48, 32, 32, 32]


def refusals() -> list[str]:
    """What a rank says to tokens and caches that cannot be spread."""
    from megatron.core.transformer.enums import AttnMaskType

    from nemo_cosmos.errors import ConfigError
    from nemo_cosmos.models.common.attention.context_parallel import (
        ContextParallelAttention,
        to_zigzag,
    )
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(cp=2)
    config = DiTConfig(num_layers=1, hidden_size=48, num_attention_heads=4, context_parallel_size=2)
    attention = ContextParallelAttention(config, 1, AttnMaskType.causal, "self")
    odd, even = torch.zeros(3, 1, 4, 12), torch.zeros(4, 1, 4, 12)
    messages = []
    for call in (
        lambda: attention(odd, odd, odd),
        lambda: attention(even, even, even, offsets=(4,)),
        lambda: to_zigzag(torch.zeros(6), attention.cp_group),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        messages.append(str(caught.value))
    return messages


def test_what_cannot_be_spread_is_refused(two_processes: ProcessPool) -> None:
    for odd, cached, undivided in two_processes.run(refusals):
        assert "3 tokens" in odd and "multiple of 4" in odd
        assert "cache" in cached and "context_parallel_size=1" in cached
        assert "6 tokens" in undivided and "multiple of 4" in undivided
