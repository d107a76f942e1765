"""Flash attention by blocks, with the log-sum-exp that merges them."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from nemo_cosmos.platform import flash


@pytest.mark.parametrize("is_triangle", [False, True])
def test_a_block_is_attention_with_its_log_sum_exp(is_triangle: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(2, 3, 8, 16, generator=generator) for _ in range(4))
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    scores = leaves[0] @ leaves[1].mT * 0.3
    if is_triangle:
        scores = scores.masked_fill(~torch.ones(8, 8, dtype=torch.bool).tril(), float("-inf"))
    wanted = scores.softmax(-1) @ leaves[2]
    wanted.backward(grad)
    found = flash.attend(q, k, v, scale=0.3, is_triangle=is_triangle)
    torch.testing.assert_close(found.out, wanted.detach())
    torch.testing.assert_close(found.lse, scores.detach().logsumexp(-1))
    grads = flash.gradients(grad, q, k, v, found, scale=0.3, is_triangle=is_triangle)
    for mine, leaf in zip(grads, leaves, strict=True):
        torch.testing.assert_close(mine, leaf.grad)


def test_cudas_kernels_take_what_they_are_given() -> None:
    """Tensors without data go through torch's own description of the kernels."""
    with FakeTensorMode():
        q, k = (torch.empty(2, 4, n, 32, device="cuda", dtype=torch.bfloat16) for n in (64, 48))
        found = flash.attend(q, k, k, scale=0.1, is_triangle=False)
        assert (found.out.device.type, found.lse.shape) == ("cuda", (2, 4, 64))
        grads = flash.gradients(q, q, k, k, found, scale=0.1, is_triangle=False)
        assert [grad.shape for grad in grads] == [q.shape, k.shape, k.shape]


@pytest.mark.parametrize(
    ("device", "dtype", "size", "available"),
    [
        ("cpu", torch.float32, 12, True),
        ("cpu", torch.float64, 12, False),
        ("meta", torch.bfloat16, 64, False),
    ],
)
def test_where_there_is_a_kernel(
    device: str, dtype: torch.dtype, size: int, available: bool
) -> None:
    assert flash.is_available(torch.empty(1, 1, 1, size, device=device, dtype=dtype)) is available
