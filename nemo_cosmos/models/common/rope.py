"""Rotary position embedding over time, height and width.

The head dimension is split into three parts, one an axis; each pair of channels ``(i, i + D/2)`` is
turned by ``position * frequency``. Positions in time are counted in base-rate frames, so that a
second spans the same angle at every frame rate (Cosmos paper, section 4.1.2).

Shape suffixes: L tokens in (t, h, w) order, B batch, H heads, D head dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from nemo_cosmos.models.common.fused import rotate


class RopeTable(NamedTuple):
    """Cosine and sine of every token's angles, float32, broadcast over heads.

    Attributes:
        cos_LB1D: (L, B or 1, 1, D/2).
        sin_LB1D: the same shape.
    """

    cos_LB1D: torch.Tensor
    sin_LB1D: torch.Tensor


@dataclass(frozen=True)
class Yarn:
    """Extension of a trained range of positions (YaRN, arXiv 2309.00071, section 3.2).

    Frequencies that turn fewer than ``beta_slow`` times over the trained length are divided by
    ``scale``, those that turn more than ``beta_fast`` times are kept, and those between are mixed.

    Attributes:
        lengths_thw: trained lengths along time, height and width.
        scale: by how much positions are extended.
        beta_fast: turns from which on a frequency is kept.
        beta_slow: turns up to which it is divided by ``scale``.
    """

    lengths_thw: tuple[int, int, int]
    scale: float = 2.0
    beta_fast: float = 4.0
    beta_slow: float = 1.0

    def factors(self, frequencies: torch.Tensor, length: int) -> torch.Tensor:
        """Return by how much each frequency changes, for an axis of a trained length."""
        slow, fast = (2 * math.pi * beta / length for beta in (self.beta_slow, self.beta_fast))
        kept = ((frequencies - slow) / (fast - slow)).clamp(0, 1)
        return (1 - kept) / self.scale + kept


class Rope3D(nn.Module):
    """Angles of a (t, h, w) grid of tokens.

    Args:
        head_dim: channels of a head; height and width take ``head_dim // 6 * 2`` each, time the
            rest.
        ratios_thw: factor by which the range of each axis grows (NTK-aware: ``theta`` is multiplied
            by ``ratio ** (d / (d - 2))``).
        base_fps: frame rate in Hz at which one latent frame is one step in time.
        theta: the base of the frequencies.
        yarn: another extension of the range; None for none.
    """

    def __init__(
        self,
        head_dim: int,
        ratios_thw: tuple[float, float, float] = (1.0, 1.0, 1.0),
        base_fps: float = 24.0,
        theta: float = 10000.0,
        yarn: Yarn | None = None,
    ) -> None:
        super().__init__()
        dim_hw = head_dim // 6 * 2
        self.dims_thw = (head_dim - 2 * dim_hw, dim_hw, dim_hw)
        self.ratios_thw = ratios_thw
        self.base_fps = base_fps
        self.theta = theta
        self.yarn = yarn

    def forward(
        self,
        grid_thw: tuple[int, int, int],
        fps_B: torch.Tensor | None,
        device: torch.device,
        origin_thw: tuple[int, int, int] = (0, 0, 0),
        period: int | None = None,
    ) -> RopeTable:
        """Compute the table for a grid.

        Args:
            grid_thw: tokens along time, height and width.
            fps_B: frame rate of each sample in Hz, or ``None`` for the base rate (images).
            device: device of the table.
            origin_thw: position of the grid's first token.
            period: tokens after which time begins again, as with each of several views.
        """
        time, height, width = grid_thw
        position_t, position_h, position_w = (
            torch.arange(first, first + size, dtype=torch.float32, device=device)
            for first, size in zip(origin_thw, grid_thw, strict=True)
        )
        if period is not None:
            position_t = position_t % period
        position_Bt = position_t[None]
        if fps_B is not None:
            fps_B1 = fps_B.to(device=device, dtype=torch.float32).reshape(-1, 1)
            position_Bt = position_Bt / fps_B1 * self.base_fps
        freq_t, freq_h, freq_w = self.frequencies(device)
        num_samples = position_Bt.shape[0]
        angles = torch.cat(
            [
                (position_Bt.t()[:, None, None, :, None] * freq_t).expand(
                    time, height, width, num_samples, -1
                ),
                (position_h[:, None] * freq_h)[None, :, None, None].expand(
                    time, height, width, num_samples, -1
                ),
                (position_w[:, None] * freq_w)[None, None, :, None].expand(
                    time, height, width, num_samples, -1
                ),
            ],
            dim=-1,
        )
        angles_LB1D = angles.reshape(time * height * width, num_samples, 1, -1)
        return RopeTable(angles_LB1D.cos(), angles_LB1D.sin())

    def frequencies(self, device: torch.device) -> list[torch.Tensor]:
        """Return the angles of one step along time, height and width, (D/2 of each axis,)."""
        frequencies = []
        for axis, (dim, ratio) in enumerate(zip(self.dims_thw, self.ratios_thw, strict=True)):
            exponent = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
            theta = self.theta * ratio ** (dim / (dim - 2))
            along = 1.0 / theta**exponent
            if self.yarn is not None:
                # The reference measures both axes of space by the rows.
                length = self.yarn.lengths_thw[min(axis, 1)]
                along = along * self.yarn.factors(along, length)
            frequencies.append(along)
        return frequencies


def apply_rope(x_LBHD: torch.Tensor, table: RopeTable, mode: str = "auto") -> torch.Tensor:
    """Turn the channel pairs of ``x_LBHD`` (queries or keys) by the table's angles.

    The product is computed in float32 and returned in the type of ``x_LBHD``.

    Args:
        x_LBHD: queries or keys.
        table: the angles.
        mode: the configuration's ``fused``.
    """
    turned: torch.Tensor = rotate(x_LBHD, *table, mode=mode)
    return turned
