"""The action control's embedder for autoregressive models: tokens to attend to, one a latent frame.

As in the published action control of these models, the actions are a context of cross-attention:
after the text where there is one, alone where there is none. A context has no order, so that each
of its tokens is made of the f actions that lead to a latent frame (A f numbers, see
:mod:`post_training.robotics.grouped`) and of the frame's number, as sines and cosines
(A f + S -> 4E -> C). Where nothing but attention tells a token which frame it stands in, it would
have to find its own action first; so the actions that lead to a frame are also added to the tokens
that its codes are predicted from (A f -> 4E -> E). That is ours.

Both start at zero: a model learns to follow from exactly what it could before.

Shape suffixes: B batch, T latent frames, A numbers of a latent frame, M context tokens, C channels
of the context, E model width, S channels of the frame's number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo_cosmos.controls.embodiment import Given
from nemo_cosmos.models.autoregressive.controls import (
    ARControlEmbedder,
    ARControlEmbedding,
    num_padded,
    padded_context,
)
from nemo_cosmos.models.common.control_dims import NetworkDims
from post_training.robotics.grouped import GroupedActions, mlp_from_zero

NUMBER_CHANNELS = 16
_LONGEST_PERIOD = 1000.0
"""In latent frames; the shortest is about six."""


class ActionContext(GroupedActions, ARControlEmbedder):
    """Embeds the actions of one embodiment as a context, and for the tokens of each frame."""

    def __init__(
        self,
        hidden_size: int,
        context_size: int,
        temporal_factor: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        cumulative: bool = False,
        embodiment: Given | None = None,
        embodiments: Sequence[Given] | None = None,
    ) -> None:
        """Make the two MLPs.

        Args:
            hidden_size: E, the network's width.
            context_size: C.
            temporal_factor: pixel frames per latent frame.
            mean: as of :class:`GroupedActions`, like the others.
            std: standard deviation of each number.
            cumulative: whether each latent frame also receives the motion since the first frame.
            embodiment: what the numbers mean.
            embodiments: what they mean of several robots.
        """
        super().__init__(temporal_factor, mean, std, cumulative, embodiment, embodiments)
        num_inputs = self.num_inputs + NUMBER_CHANNELS
        self.context = mlp_from_zero(num_inputs, 4 * hidden_size, context_size)
        self.frame = mlp_from_zero(self.num_inputs, 4 * hidden_size, hidden_size)

    @classmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        """Make the control; ``options`` are the arguments but for the sizes."""
        return cls(dims.hidden_size, dims.context_size, dims.temporal_factor, **options)

    @classmethod
    def num_context_tokens(cls, grid_thw: tuple[int, int, int]) -> int:
        """Return one for each latent frame, padded."""
        return num_padded(grid_thw[0])

    def forward(
        self, batch: Mapping[str, Tensor], grid_thw: tuple[int, int, int]
    ) -> ARControlEmbedding:
        """Embed ``batch["action"]`` (B, T_pixels - 1, A) for codes of T latent frames.

        An image, T = 1, has no action and needs no such entry.

        Raises:
            SampleError: the batch has no actions, or a wrong number of them.
        """
        action_BNA = batch.get("action")
        batch_size = 1 if action_BNA is None else len(action_BNA)
        if "codes" in batch:
            batch_size = len(batch["codes"])
        grouped_BTA = self.of_batch(batch, batch_size, grid_thw[0])
        grouped_BTA = grouped_BTA.to(next(self.parameters()).dtype)
        started_BTA = F.pad(grouped_BTA, (0, 0, 1, 0))  # nothing leads to the first frame
        number_BTS = frame_numbers(grid_thw[0]).to(started_BTA).expand(len(started_BTA), -1, -1)
        context_BTC = self.context(torch.cat([started_BTA, number_BTS], dim=-1))
        frame_BTE = F.pad(self.frame(grouped_BTA), (0, 0, 1, 0))
        return ARControlEmbedding(padded_context(context_BTC), frame_BTE)


def frame_numbers(num_latent_frames: int) -> Tensor:
    """Return sines and cosines of the numbers of latent frames, (1, T, S)."""
    half = NUMBER_CHANNELS // 2
    rate = _LONGEST_PERIOD ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(num_latent_frames, dtype=torch.float64)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[None]
