"""What the elementwise steps compute, in plain formulas that autograd differentiates.

They compute in float32 at least and return the type of the tokens.

Shape suffixes: L tokens, B batch, T rows of a modulation, E model width, D a head's channels. The L
tokens are T equal runs, of which each takes one row; in a pack ``row_L`` says which row each token
takes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

EPS = 1e-6
"""Added to the variance of tokens that are modulated."""


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last axis.

    Args:
        x: (..., D).
        weight: (D,).
        eps: added to the mean square.
    """
    wide_x = _wide(x)
    scale = (wide_x.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (wide_x * scale * weight).to(x.dtype)


def rotate(x_LBHD: torch.Tensor, cos_LB1D: torch.Tensor, sin_LB1D: torch.Tensor) -> torch.Tensor:
    """Turn the channel pairs ``(i, i + D/2)`` by angles.

    Args:
        x_LBHD: queries or keys.
        cos_LB1D: cosines of the angles, (L, B or 1, 1, D/2), float32.
        sin_LB1D: sines of the same angles.
    """
    a, b = x_LBHD.float().chunk(2, dim=-1)
    turned = [a * cos_LB1D - b * sin_LB1D, b * cos_LB1D + a * sin_LB1D]
    return torch.cat(turned, dim=-1).to(x_LBHD.dtype)


def modulate(
    x_LBE: torch.Tensor,
    shift_TBE: torch.Tensor,
    scale_TBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalise tokens over their width, then scale by ``1 + scale`` and shift.

    Args:
        x_LBE: tokens.
        shift_TBE: shift of each row.
        scale_TBE: scale of each row, less one.
        row_L: the row that each token takes.
    """
    normed_TXBE = _runs(F.layer_norm(_wide(x_LBE), x_LBE.shape[-1:], eps=EPS), shift_TBE, row_L)
    scale, shift = _for_runs(scale_TBE, row_L), _for_runs(shift_TBE, row_L)
    return (normed_TXBE * (1 + scale) + shift).flatten(0, 1).to(x_LBE.dtype)


def place_and_modulate(
    x_LBE: torch.Tensor,
    position_L1E: torch.Tensor,
    shift_TBE: torch.Tensor,
    scale_TBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the position to tokens; return them, and them modulated.

    Args:
        x_LBE: tokens.
        position_L1E: learned position of each token.
        shift_TBE: as in :func:`modulate`.
        scale_TBE: as in :func:`modulate`.
        row_L: as in :func:`modulate`.
    """
    x_LBE = x_LBE + position_L1E
    return x_LBE, modulate(x_LBE, shift_TBE, scale_TBE, row_L)


def add_gated(
    x_LBE: torch.Tensor,
    gate_TBE: torch.Tensor,
    update_LBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> torch.Tensor:
    """``x + gate * update``.

    Args:
        x_LBE: tokens.
        gate_TBE: gate of each row.
        update_LBE: what a sub-layer adds to them.
        row_L: the row that each token takes.
    """
    update_TXBE = _runs(_wide(update_LBE), gate_TBE, row_L) * _for_runs(gate_TBE, row_L)
    return (_wide(x_LBE) + update_TXBE.flatten(0, 1)).to(x_LBE.dtype)


def add_gated_and_modulate(
    x_LBE: torch.Tensor,
    gate_TBE: torch.Tensor,
    update_LBE: torch.Tensor,
    shift_TBE: torch.Tensor,
    scale_TBE: torch.Tensor,
    row_L: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The end of one sub-layer and the beginning of the next: the tokens, and them modulated.

    Args:
        x_LBE: tokens.
        gate_TBE: gate of each row.
        update_LBE: what the sub-layer adds to them.
        shift_TBE: as in :func:`modulate`, of the next sub-layer.
        scale_TBE: as in :func:`modulate`, of the next sub-layer.
        row_L: the row that each token takes.
    """
    x_LBE = add_gated(x_LBE, gate_TBE, update_LBE, row_L)
    return x_LBE, modulate(x_LBE, shift_TBE, scale_TBE, row_L)


def take_rows(table_TBE: torch.Tensor, row_L: torch.Tensor) -> torch.Tensor:
    """Return the row of a table that each token takes, (L, B, E)."""
    rows: torch.Tensor = _TakeRows.apply(table_TBE, row_L)
    return rows


class _TakeRows(torch.autograd.Function):
    """Rows by number; their gradient is a product with a matrix of zeros and ones.

    The gradient of an index or embedding would add up all tokens of a row one after another, or in
    an order that differs from run to run.
    """

    @staticmethod
    def forward(ctx: Any, table_TBE: torch.Tensor, row_L: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(row_L)
        ctx.num_rows = len(table_TBE)
        return table_TBE[row_L]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (row_L,) = ctx.saved_tensors
        (g_LBE,) = gradients
        number_T = torch.arange(ctx.num_rows, device=row_L.device)
        is_row_TL = (number_T[:, None] == row_L).to(g_LBE.dtype)
        return (is_row_TL @ g_LBE.flatten(1)).unflatten(1, g_LBE.shape[1:]), None


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _runs(x_LBE: torch.Tensor, table_TBE: torch.Tensor, row_L: torch.Tensor | None) -> torch.Tensor:
    """Tokens in runs, (T, L/T, B, E); in a pack every token is a run."""
    return x_LBE[:, None] if row_L is not None else x_LBE.unflatten(0, (len(table_TBE), -1))


def _for_runs(table_TBE: torch.Tensor, row_L: torch.Tensor | None) -> torch.Tensor:
    """What each run takes of a table, (T, 1, B, E)."""
    table_TBE = table_TBE if row_L is None else take_rows(table_TBE, row_L)
    return _wide(table_TBE)[:, None]
