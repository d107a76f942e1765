"""The action control's embedder for diffusion: commands decide what the next frames show.

Cosmos paper, section 6.2 (action-based next-frame prediction), extended to clips and to any
embodiment. An action is A numbers, such as the change of a gripper's position (3) and of its
rotation (3), and its opening (A = 7). The f actions that lead to a latent frame are concatenated
(:mod:`post_training.robotics.grouped`). The first frame is where the robot starts: nothing led to
it, and its embedding is zero. Two MLPs put the actions into the timestep embedding
(A f -> 4D -> D) and into the shared AdaLN-LoRA vector (A f -> 4D -> 3D).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch.nn.functional as F
from torch import Tensor

from nemo_cosmos.controls.embodiment import Given
from nemo_cosmos.models.diffusion.controls import ControlEmbedder, ControlEmbedding, NetworkDims
from post_training.robotics.grouped import GroupedActions, mlp_from_zero


class ActionEmbedder(GroupedActions, ControlEmbedder):
    """Embeds the actions of one embodiment, or of several, per latent frame."""

    level_each_frame: ClassVar[bool] = True

    def __init__(
        self,
        hidden_size: int,
        temporal_factor: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        cumulative: bool = False,
        embodiment: Given | None = None,
        embodiments: Sequence[Given] | None = None,
    ) -> None:
        """Make the two MLPs.

        Args:
            hidden_size: D, the network's width.
            temporal_factor: pixel frames per latent frame.
            mean: as of :class:`GroupedActions`, like the others.
            std: standard deviation of each number.
            cumulative: whether each latent frame also receives the motion since the first frame.
            embodiment: what the numbers mean.
            embodiments: what they mean of several robots.
        """
        super().__init__(temporal_factor, mean, std, cumulative, embodiment, embodiments)
        self.timestep = mlp_from_zero(self.num_inputs, 4 * hidden_size, hidden_size)
        self.adaln_lora = mlp_from_zero(self.num_inputs, 4 * hidden_size, 3 * hidden_size)

    @classmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        """Make the control; ``options`` are the arguments but for the sizes."""
        return cls(dims.hidden_size, dims.temporal_factor, **options)

    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        """Embed ``batch["action"]`` (B, T_pixels - 1, A) for latents of T frames.

        An image, T = 1, has no action and needs no such entry.

        Raises:
            SampleError: the batch has no actions, or a wrong number of them.
        """
        batch_size, _, num_latent_frames = latent_shape_BCTHW[:3]
        grouped_BTA = self.of_batch(batch, batch_size, num_latent_frames)
        grouped_BTA = grouped_BTA.to(next(self.parameters()).dtype)
        return ControlEmbedding(
            timestep_BTD=_start_with_zero(self.timestep(grouped_BTA)),
            adaln_lora_BT3D=_start_with_zero(self.adaln_lora(grouped_BTA)),
        )


def _start_with_zero(embedding_BTD: Tensor) -> Tensor:
    """Prepend the zero embedding of the first latent frame."""
    return F.pad(embedding_BTD, (0, 0, 1, 0))
