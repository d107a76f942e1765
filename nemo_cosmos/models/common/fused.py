"""Elementwise steps of the networks with gradients written out, in few passes over memory.

Each is equal to a plain formula, which its tests compare it with. It keeps its inputs and a number
for each row for the backward pass, where the plain formula keeps every intermediate result.
"""

from __future__ import annotations

from typing import Any

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last axis.

    Computed in float32 at least, and returned in the type of ``x``.

    Args:
        x: (..., D).
        weight: (D,).
        eps: added to the mean square.
    """
    normed: torch.Tensor = _RMSNorm.apply(x, weight, eps)
    return normed


class _RMSNorm(torch.autograd.Function):
    """The gradients are ``dx = r (g w - n mean(g w n))`` and ``dw = sum(g n)``.

    Here ``r = 1 / sqrt(mean(x^2) + eps)`` and ``n = x r``.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        scale = norm.square().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        normed = x * scale
        product = gradients[0] * normed
        d_weight = product.sum(tuple(range(x.dim() - 1))).to(weight.dtype)
        mean = torch.mv(product.flatten(0, -2), weight.to(product.dtype)).div_(x.shape[-1])
        d_normed = gradients[0] * weight.to(product.dtype)
        d_normed.addcmul_(normed, mean.view(scale.shape), value=-1)
        return d_normed.mul_(scale).to(x.dtype), d_weight, None
