"""Where a token stands in the video: rotary angles and absolute positions.

The tokens of a video are counted in the order (t, h, w), behind the token of the beginning where
the network has one. That token has no place: it is not turned, and nothing is added to it.

Shape suffixes: P places of the whole video, L tokens, B batch or 1, D half of a head's channels,
E model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_cosmos.errors import WrongFrameCountError, WrongSizeError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.common.rope import Rope3D, RopeTable

Grid = tuple[int, int, int]
"""Latent frames, rows and columns."""


@dataclass(frozen=True)
class Places:
    """What the layers see of the places of some tokens.

    Attributes:
        rope: cosines and sines of the rotary embedding, (L, B, 1, D).
        next_frame_LB: the latent frame of the code behind each token.
        position_LBE: the absolute position embedding; None without one.
    """

    rope: RopeTable
    next_frame_LB: Tensor
    position_LBE: Tensor | None


@dataclass(frozen=True)
class PlaceTable:
    """The places of a whole video, to be looked up.

    Attributes:
        cos_PD: cosines.
        sin_PD: sines.
        next_frame_P: the latent frame of the code behind each token.
        position_PE: absolute positions; None without.
    """

    cos_PD: Tensor
    sin_PD: Tensor
    next_frame_P: Tensor
    position_PE: Tensor | None

    def at(self, index: Tensor) -> Places:
        """Return the places of tokens by number, (L,) or (L, B)."""
        index_LB = index[:, None] if index.dim() == 1 else index
        rope = RopeTable(self.cos_PD[index_LB][:, :, None], self.sin_PD[index_LB][:, :, None])
        position = None if self.position_PE is None else self.position_PE[index_LB]
        return Places(rope, self.next_frame_P[index_LB], position)


def place_table(
    config: ARConfig, grid_thw: Grid, device: torch.device, dtype: torch.dtype
) -> PlaceTable:
    """Compute the places of a video's tokens.

    Args:
        config: the network's configuration.
        grid_thw: latent frames, rows and columns.
        device: where the table is.
        dtype: type of the absolute positions.
    """
    rope = Rope3D(config.head_dim, theta=config.rope_theta, yarn=config.yarn)
    cos_P11D, sin_P11D = rope(grid_thw, None, device)
    cos_PD, sin_PD = cos_P11D[:, 0, 0], sin_P11D[:, 0, 0]
    position_PE = None
    if config.absolute_positions:
        position_PE = absolute_positions(config.hidden_size, grid_thw, device).to(dtype)
    if config.begin_token:
        cos_PD = torch.cat([torch.ones_like(cos_PD[:1]), cos_PD])
        sin_PD = torch.cat([torch.zeros_like(sin_PD[:1]), sin_PD])
        if position_PE is not None:
            position_PE = torch.cat([torch.zeros_like(position_PE[:1]), position_PE])
    frames, rows, columns = grid_thw
    first = 0 if config.begin_token else 1  # place of the code behind the first token
    place_P = torch.arange(len(cos_PD), device=device) + first
    # Nothing follows the last token; it counts to the last frame.
    next_frame_P = (place_P // (rows * columns)).clamp(max=frames - 1)
    return PlaceTable(cos_PD, sin_PD, next_frame_P, position_PE)


def absolute_positions(width: int, grid_thw: Grid, device: torch.device) -> Tensor:
    """Return sines and cosines of the places along time, height and width: (T*H*W, E), float32.

    Height and width take ``width // 6 * 2`` channels each, time the rest.
    """
    dim_hw = width // 6 * 2
    parts = [
        _along(dim, size, device)
        for dim, size in zip((width - 2 * dim_hw, dim_hw, dim_hw), grid_thw, strict=True)
    ]
    time, height, rows = (parts[0][:, None, None], parts[1][None, :, None], parts[2][None, None])
    return torch.cat([part.expand(*grid_thw, -1) for part in (time, height, rows)], -1).flatten(
        0, 2
    )


def _along(dim: int, size: int, device: torch.device) -> Tensor:
    """Sines, then cosines, of the places 0 to ``size`` - 1 along one axis."""
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float64, device=device) / half
    place = torch.arange(size, dtype=torch.float64, device=device)
    angle = place[:, None] * 10_000.0**-exponent
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def check_grid(grid_thw: Grid, config: ARConfig) -> int:
    """Require a video that the network takes, and return the number of its codes.

    Raises:
        WrongFrameCountError: too many latent frames, or none.
        WrongSizeError: too many latent rows or columns, or none.
    """
    frames, *sides = grid_thw
    if not 0 < frames <= config.max_frames:
        raise WrongFrameCountError(
            f"The video has {frames} latent frames, but this network takes 1 to "
            f"{config.max_frames}. Use a shorter video, or extend one."
        )
    limits = (("height", config.max_height), ("width", config.max_width))
    for size, (name, limit) in zip(sides, limits, strict=True):
        if not 0 < size <= limit:
            raise WrongSizeError(
                f"The latent's {name} is {size}, but this network takes 1 to {limit}. Use a "
                "smaller video."
            )
    return math.prod(grid_thw)
