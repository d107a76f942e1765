"""Attention over tokens that are spread over processes equals attention over all of them."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from nemo_cosmos.testing.processes import ProcessPool


def attend(kind: str, groups: int, dtype: torch.dtype) -> dict[str, float]:
    """Largest errors of result and gradients against one process, relative to their size."""
    from megatron.core.transformer.enums import AttnMaskType

    from nemo_cosmos.models.common.attention.context_parallel import ContextParallelAttention
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(cp=int(os.environ["WORLD_SIZE"]))
    size, rank = dist.get_world_size(), dist.get_rank()
    config = DiTConfig(
        num_layers=1, hidden_size=48, num_attention_heads=4, context_parallel_size=size
    )
    attention = ContextParallelAttention(config, 1, AttnMaskType.no_mask, "self", cp_comm_type=kind)
    generator = torch.Generator().manual_seed(0)
    tokens = 3 * size
    q, k, v, grad = (
        torch.randn(tokens, 2, heads, 12, generator=generator).to(dtype)
        for heads in (4, 4 // groups, 4 // groups, 4)
    )
    q = q * 4  # so that the softmax is not flat
    whole = [x.clone().requires_grad_() for x in (q, k, v)]
    keys, values = (x.repeat_interleave(groups, dim=2) for x in whole[1:])
    wanted = torch.nn.functional.scaled_dot_product_attention(
        *(x.permute(1, 2, 0, 3).double() for x in (whole[0], keys, values))
    ).permute(2, 0, 1, 3)
    wanted.backward(grad.double())

    own = [x.detach().chunk(size)[rank].clone().requires_grad_() for x in whole]
    found = attention(*own)
    found.backward(grad.chunk(size)[rank].flatten(2))
    errors = {"out": _error(found, wanted.chunk(size)[rank].flatten(2))}
    for name, mine, reference in zip("qkv", own, whole, strict=True):
        errors[name] = _error(mine.grad, reference.grad.chunk(size)[rank])
    return errors


def _error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("kind", ["a2a", "p2p"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_two_processes(
    kind: str, dtype: torch.dtype, limit: float, two_processes: ProcessPool
) -> None:
    for errors in two_processes.run(attend, kind, 2 if kind == "p2p" else 1, dtype):
        assert all(error < limit for error in errors.values()), errors


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a2a", "p2p"])
def test_four_processes(kind: str, four_processes: ProcessPool) -> None:
    for errors in four_processes.run(attend, kind, 1, torch.float32):
        assert all(error < 1e-5 for error in errors.values()), errors
