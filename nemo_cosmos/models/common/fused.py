"""Elementwise steps of the networks with gradients written out, in few passes over memory.

Each is equal to a plain formula, which its tests compare it with. It keeps its inputs and a number
for each row for the backward pass, where the plain formula keeps every intermediate result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F


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
    """RMS normalisation; its gradients are ``dx = r (g w - n mean(g w n))``, ``dw = sum(g n)``.

    Here ``r = 1 / sqrt(mean(x^2) + eps)`` and ``n = x r``.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        wide_x = x.to(torch.promote_types(x.dtype, torch.float32))
        norm = torch.linalg.vector_norm(wide_x, dim=-1, keepdim=True)
        scale = norm.square().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide_x * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        g, wide_weight = gradients[0].to(scale.dtype), weight.to(scale.dtype)
        normed = x.to(scale.dtype) * scale
        product = g * normed
        d_weight = product.sum(tuple(range(x.dim() - 1))).to(weight.dtype)
        mean = torch.mv(product.flatten(0, -2), wide_weight).div_(x.shape[-1]).view(scale.shape)
        dx = torch.mul(g, wide_weight, out=product).addcmul_(normed, mean, value=-1).mul_(scale)
        return dx.to(x.dtype), d_weight, None


def layer_norm_by_row(
    x_LBE: torch.Tensor, weight_TBE: torch.Tensor, bias_TBE: torch.Tensor, eps: float
) -> torch.Tensor:
    """Normalise over the last axis, then apply each row's weight and bias to its tokens.

    Args:
        x_LBE: tokens, T equal runs of them.
        weight_TBE: weight of each run.
        bias_TBE: bias of each run.
        eps: added to the variance.
    """
    if len(weight_TBE) == weight_TBE.shape[1] == 1 and x_LBE.dtype == torch.float32:
        # Not in bfloat16: torch would sum the gradients of weight and bias in that type.
        return F.layer_norm(x_LBE, x_LBE.shape[-1:], weight_TBE.flatten(), bias_TBE.flatten(), eps)
    normed: torch.Tensor = _LayerNormByRow.apply(x_LBE, weight_TBE, bias_TBE, eps)
    return normed


class _LayerNormByRow(torch.autograd.Function):
    """The backward pass normalises again, so that the normalised tokens need not be kept."""

    @staticmethod
    def forward(
        ctx: Any, x_LBE: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> torch.Tensor:
        normed, mean, scale = torch.native_layer_norm(x_LBE, x_LBE.shape[-1:], None, None, eps)
        ctx.save_for_backward(x_LBE, weight, mean, scale)
        ctx.eps, ctx.bias_dtype = eps, bias.dtype
        runs = normed.unflatten(0, (len(weight), -1))
        return torch.addcmul(bias[:, None], runs, weight[:, None]).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_LBE, weight, mean, scale = ctx.saved_tensors
        width = x_LBE.shape[-1:]
        normed, *_ = torch.native_layer_norm(x_LBE, width, None, None, ctx.eps)
        g, runs = (x.unflatten(0, (len(weight), -1)) for x in (gradients[0], normed))
        d_normed = (g * weight[:, None]).flatten(0, 1)
        dx, *_ = torch.ops.aten.native_layer_norm_backward(
            d_normed, x_LBE, width, mean, scale, None, None, [True, False, False]
        )
        d_weight = (g * runs).sum(1, dtype=weight.dtype)
        return dx, d_weight, g.sum(1, dtype=ctx.bias_dtype), None
