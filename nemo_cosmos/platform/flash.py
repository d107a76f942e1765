"""Flash attention by blocks: torch's fused kernels with their log-sum-exp, forward and backward.

:func:`torch.nn.functional.scaled_dot_product_attention` keeps the log-sum-exp to itself. Attention
that is computed block by block needs it: blocks' results are merged by it, and a block's gradient
follows from the merged result and log-sum-exp, as if the kernel had seen all blocks.

Shape suffixes: B batch, H heads, L queries, M keys, D head dimension.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

_HALF = (torch.bfloat16, torch.float16)
_MAX_HEAD_SIZE = 256
"""Channels of a head that the kernels on CUDA take; they take multiples of 8."""


class Attended(NamedTuple):
    """What attention to one block of keys gives.

    Attributes:
        out: (B, H, L, D), in the type of the queries.
        lse: (B, H, L), log-sum-exp of the scores in float32.
        rest: what the kernel's backward pass wants back.
    """

    out: torch.Tensor
    lse: torch.Tensor
    rest: tuple[Any, ...]


def is_available(q: torch.Tensor) -> bool:
    """Whether this device has a fused kernel for queries of such a type and head dimension."""
    if q.device.type == "cpu":
        return q.dtype in (torch.float32, *_HALF)
    size = q.shape[-1]
    fits = q.dtype in _HALF and size % 8 == 0 and size <= _MAX_HEAD_SIZE
    return (
        fits
        and q.device.type == "cuda"
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(q.device) >= (8, 0)
    )


def attend(
    q_BHLD: torch.Tensor,
    k_BHMD: torch.Tensor,
    v_BHMD: torch.Tensor,
    *,
    scale: float,
    is_triangle: bool,
) -> Attended:
    """Attend to a block of keys.

    Args:
        q_BHLD: queries.
        k_BHMD: keys.
        v_BHMD: values.
        scale: factor of the scores.
        is_triangle: whether L = M and query ``i`` sees the keys 0 to ``i``; else all see all.
    """
    if q_BHLD.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q_BHLD, k_BHMD, v_BHMD, 0.0, is_triangle, scale=scale
        )
        return Attended(out, lse, ())
    out, lse, *rest = torch.ops.aten._scaled_dot_product_flash_attention(
        q_BHLD, k_BHMD, v_BHMD, 0.0, is_triangle, scale=scale
    )
    return Attended(out, lse, tuple(rest[:6]))  # the last is for debugging


def gradients(
    grad_BHLD: torch.Tensor,
    q_BHLD: torch.Tensor,
    k_BHMD: torch.Tensor,
    v_BHMD: torch.Tensor,
    attended: Attended,
    *,
    scale: float,
    is_triangle: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of a block's queries, keys and values.

    Args:
        grad_BHLD: gradient of the result.
        q_BHLD: queries.
        k_BHMD: the block's keys.
        v_BHMD: its values.
        attended: result and log-sum-exp over all blocks, and the rest of :func:`attend` for this.
        scale: factor of the scores.
        is_triangle: as for :func:`attend`.
    """
    inputs = (grad_BHLD, q_BHLD, k_BHMD, v_BHMD, attended.out, attended.lse)
    if q_BHLD.device.type == "cpu":
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *inputs, 0.0, is_triangle, scale=scale
        )
    else:
        *lengths, seed, offset = attended.rest
        found = torch.ops.aten._scaled_dot_product_flash_attention_backward(
            *inputs, *lengths, 0.0, is_triangle, seed, offset, scale=scale
        )
    grad_q, grad_k, grad_v = found
    return grad_q, grad_k, grad_v
