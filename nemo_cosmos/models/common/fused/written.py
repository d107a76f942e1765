"""The elementwise steps with gradients written out, for devices without a compiler of kernels.

Each is equal to the formula of the same name (``formulas``), where its arguments are described, and
keeps its inputs and a number or two for each token for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from nemo_cosmos.models.common.fused.formulas import EPS


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMS normalisation over the last axis."""
    if not torch.is_grad_enabled():  # a decoder's small steps feel what an autograd function costs
        return _normed_by(x, weight, eps)[0]
    normed: torch.Tensor = _RMSNorm.apply(x, weight, eps)
    return normed


def _normed_by(
    x: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is normalised and weighted, and the scale of each row."""
    wide_x = x.to(torch.promote_types(x.dtype, torch.float32))
    norm = torch.linalg.vector_norm(wide_x, dim=-1, keepdim=True)
    scale = norm.square().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide_x * scale).mul_(weight).to(x.dtype), scale


class _RMSNorm(torch.autograd.Function):
    """RMS normalisation; its gradients are ``dx = r (g w - n mean(g w n))``, ``dw = sum(g n)``.

    Here ``r = 1 / sqrt(mean(x^2) + eps)`` and ``n = x r``.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        normed, scale = _normed_by(x, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return normed

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


def rotate(x_LBHD: torch.Tensor, cos_LB1D: torch.Tensor, sin_LB1D: torch.Tensor) -> torch.Tensor:
    """Turn channel pairs by angles."""
    if not torch.is_grad_enabled():
        return _turn(x_LBHD, cos_LB1D, sin_LB1D, sign=1)
    turned: torch.Tensor = _Rotate.apply(x_LBHD, cos_LB1D, sin_LB1D)
    return turned


def modulate(
    x_LBE: torch.Tensor,
    shift_TBE: torch.Tensor,
    scale_TBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalise, scale and shift."""
    if row_L is not None:
        shift_TBE, scale_TBE = take_rows(shift_TBE, row_L), take_rows(scale_TBE, row_L)
    return layer_norm_by_row(x_LBE, 1 + scale_TBE, shift_TBE, EPS)


def place_and_modulate(
    x_LBE: torch.Tensor,
    position_L1E: torch.Tensor,
    shift_TBE: torch.Tensor,
    scale_TBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the position, and modulate."""
    x_LBE = x_LBE + position_L1E
    return x_LBE, modulate(x_LBE, shift_TBE, scale_TBE, row_L)


def add_gated(
    x_LBE: torch.Tensor,
    gate_TBE: torch.Tensor,
    update_LBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> torch.Tensor:
    """Add a gated update."""
    if row_L is not None:
        gate_TBE = take_rows(gate_TBE, row_L)
    update = update_LBE.unflatten(0, (len(gate_TBE), -1)) * gate_TBE[:, None]
    return x_LBE + update.flatten(0, 1)


def add_gated_and_modulate(
    x_LBE: torch.Tensor,
    gate_TBE: torch.Tensor,
    update_LBE: torch.Tensor,
    shift_TBE: torch.Tensor,
    scale_TBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add a gated update, and modulate."""
    x_LBE = add_gated(x_LBE, gate_TBE, update_LBE, row_L)
    return x_LBE, modulate(x_LBE, shift_TBE, scale_TBE, row_L)


def take_rows(table_TBE: torch.Tensor, row_L: torch.Tensor) -> torch.Tensor:
    """Return the row of a table that each token takes, (L, B, E).

    An embedding, not an index: on CUDA the gradient of an index is summed by one warp for all
    tokens of a row, one after another; that of an embedding is sorted and summed in segments.
    """
    return F.embedding(row_L, table_TBE.flatten(1)).unflatten(1, table_TBE.shape[1:])


class _Rotate(torch.autograd.Function):
    """A rotation; its gradient is the rotation back, which needs nothing but the angles."""

    @staticmethod
    def forward(
        ctx: Any, x_LBHD: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x_LBHD, cos, sin, sign=1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turn(gradients[0], cos, sin, sign=-1), None, None


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, sign: int) -> torch.Tensor:
    a, b = x.float().chunk(2, dim=-1)
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    out_a, out_b = out.chunk(2, dim=-1)
    torch.mul(a, cos, out=out_a).addcmul_(b, sin, value=-sign)
    torch.mul(b, cos, out=out_b).addcmul_(a, sin, value=sign)
    return out.to(x.dtype)


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
