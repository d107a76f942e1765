"""The action control's embedder: a robot's commands decide what the next frames show.

Cosmos paper, section 6.2 (action-based next-frame prediction), extended to clips and to any
embodiment. An action is A numbers, such as the change of a gripper's position (3) and of its
rotation (3), and its opening (A = 7). Row t of a clip's actions moves frame t to frame t+1. The
tokenizer makes one latent frame of f pixel frames, so that f actions lead to each latent frame
after the first; they are concatenated. The first frame is where the robot starts: nothing led to
it, and its embedding is zero. Two MLPs put the actions into the timestep embedding
(A f -> 4D -> D) and into the shared AdaLN-LoRA vector (A f -> 4D -> 3D).

The gripper's position at a latent frame is the sum of all actions up to it. With ``cumulative``,
each latent frame also receives the sums of those numbers that add up (A f + S inputs; six of the
seven above), which a small model would otherwise have to gather by attention over the frames. The
sum is exact while the gripper keeps its orientation, and first-order otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.controls.embodiment import Given
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.models.diffusion.controls import ControlEmbedder, ControlEmbedding, NetworkDims
from post_training.robotics.signal import ACTION, embodiment_of


class ActionEmbedder(ControlEmbedder):
    """Embeds the actions of one embodiment per latent frame.

    The statistics that normalise the actions are buffers: they are saved with the weights, so that
    a loaded model takes actions in the robot's own units.
    """

    level_each_frame: ClassVar[bool] = True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        hidden_size: int,
        temporal_factor: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        cumulative: bool = False,
        embodiment: Given | None = None,
    ) -> None:
        """Make the two MLPs.

        Args:
            hidden_size: D, the network's width.
            temporal_factor: pixel frames per latent frame.
            mean: mean of each number over the training actions; 0 by default.
            std: standard deviation of each number; 1 by default.
            cumulative: whether each latent frame also receives the motion since the first frame.
            embodiment: what the numbers mean: a name of the table, a file or a record; ``bridge_7``
                by default. Its own statistics come before ``mean`` and ``std``.
        """
        super().__init__()
        given = {"embodiment": embodiment, "mean": mean, "std": std}
        self.embodiment = embodiment_of({n: each for n, each in given.items() if each is not None})
        self.temporal_factor = temporal_factor
        self.cumulative = cumulative
        width = self.embodiment.width
        self._adds_up = list(self.embodiment.adds_up)
        if cumulative and not self._adds_up:
            raise ConfigError(
                f"'cumulative' sums the steps of an action, but no number of the embodiment "
                f"'{self.embodiment.name}' is a step that adds up. Leave it out, or correct "
                "'relation' in the embodiment."
            )
        mean, std = self.embodiment.mean or (0.0,) * width, self.embodiment.std or (1.0,) * width
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        num_inputs = width * temporal_factor + len(self._adds_up) * cumulative
        self.timestep = _mlp(num_inputs, 4 * hidden_size, hidden_size)
        self.adaln_lora = _mlp(num_inputs, 4 * hidden_size, 3 * hidden_size)

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
        action_BNA = batch.get("action")
        if num_latent_frames == 1:
            action_BNA = self.mean.new_zeros(batch_size, 0, self.embodiment.width)
        elif action_BNA is None:
            raise SampleError(
                "The batch has no 'action', which the model's action control needs. Read shards "
                f"with '{ACTION.suffix}' sidecars, or pass the actions when you generate."
            )
        grouped_BTA = self.group(action_BNA, num_latent_frames)
        grouped_BTA = grouped_BTA.to(next(self.parameters()).dtype)
        return ControlEmbedding(
            timestep_BTD=_start_with_zero(self.timestep(grouped_BTA)),
            adaln_lora_BT3D=_start_with_zero(self.adaln_lora(grouped_BTA)),
        )

    def group(self, action_BNA: Tensor, num_latent_frames: int) -> Tensor:
        """Normalise the actions and concatenate those that lead to each latent frame.

        Args:
            action_BNA: (B, temporal_factor * (T - 1), A) actions in the robot's units.
            num_latent_frames: T.

        Returns:
            (B, T - 1, A * temporal_factor) float32, with a column more for each number that adds
            up if ``cumulative``: the normalised motion since the first frame, in actions a latent
            frame.

        Raises:
            SampleError: the number of actions, or of numbers per action, is wrong.
        """
        num_actions = self.temporal_factor * (num_latent_frames - 1)
        if action_BNA.shape[1:] != (num_actions, self.embodiment.width):
            raise SampleError(
                f"The actions have shape {tuple(action_BNA.shape[1:])}; {num_latent_frames} latent "
                f"frames of {self.temporal_factor} pixel frames need ({num_actions}, "
                f"{self.embodiment.width}): one action between every two pixel frames, of "
                f"{', '.join(self.embodiment.names)}."
            )
        normalised = (action_BNA.float() - self.mean.float()) / self.std.float()
        groups_BTNA = normalised.unflatten(1, (num_latent_frames - 1, self.temporal_factor))
        grouped_BTA = groups_BTNA.flatten(2)
        if not self.cumulative:
            return grouped_BTA
        so_far_BTA = groups_BTNA[..., self._adds_up].mean(dim=2).cumsum(dim=1)
        return torch.cat([grouped_BTA, so_far_BTA], dim=-1)


def _mlp(num_inputs: int, num_hidden: int, num_outputs: int) -> nn.Sequential:
    """Two layers with tanh-GELU; the last is zero, so that training starts without an effect."""
    last = nn.Linear(num_hidden, num_outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(num_inputs, num_hidden), nn.GELU(approximate="tanh"), last)


def _start_with_zero(embedding_BTD: Tensor) -> Tensor:
    """Prepend the zero embedding of the first latent frame."""
    return F.pad(embedding_BTD, (0, 0, 1, 0))
