"""Actions as embedders take them: normalised, and those that lead to a latent frame together.

Row t of a clip's actions moves frame t to frame t + 1. The tokenizer makes one latent frame of f
pixel frames, so that f actions lead to each latent frame after the first; they are concatenated.
Nothing leads to the first.

The gripper's position at a latent frame is the sum of all actions up to it. With ``cumulative``,
each latent frame also receives the sums of those numbers that add up (A f + S inputs; six of the
seven of ``bridge_7``), which a small model would otherwise have to gather by attention over the
frames. The sum is exact while the gripper keeps its orientation, and first-order otherwise.

A world of several robots (:mod:`post_training.robotics.several`) takes a block of numbers for each,
as wide as its actions need, and a flag that says whose they are; the blocks of the others are zero.
So a first layer of an embedder has weights for each robot of its own, and all further layers are
shared: what moves a gripper to the left looks alike, however it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from nemo_cosmos.controls.embodiment import Given
from nemo_cosmos.errors import ConfigError, SampleError
from post_training.robotics.several import told_width
from post_training.robotics.signal import ACTION, embodiments_of


class GroupedActions(nn.Module):
    """What embedders of actions have in common, in every model family.

    The statistics that normalise the actions are buffers: they are saved with the weights, so that
    a loaded model takes actions in the robot's own units.

    Args:
        temporal_factor: pixel frames per latent frame.
        mean: mean of each number over the training actions; 0 by default.
        std: standard deviation of each number; 1 by default.
        cumulative: whether each latent frame also receives the motion since the first frame.
        embodiment: what the numbers mean: a name of the table, a file or a record; ``bridge_7`` by
            default. Its own statistics come before ``mean`` and ``std``.
        embodiments: those of several robots that steer one world, in place of ``embodiment``,
            ``mean`` and ``std``.

    Raises:
        ConfigError: there is no such embodiment, the statistics do not fit it, or no number of it
            adds up.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        temporal_factor: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        cumulative: bool = False,
        embodiment: Given | None = None,
        embodiments: Sequence[Given] | None = None,
    ) -> None:
        super().__init__()
        given = {"embodiment": embodiment, "mean": mean, "std": std, "embodiments": embodiments}
        self.embodiments = embodiments_of({n: one for n, one in given.items() if one is not None})
        self.temporal_factor = temporal_factor
        if cumulative and not any(one.adds_up for one in self.embodiments):
            raise ConfigError(
                "'cumulative' sums the steps of an action, but no number of the embodiment "
                f"'{self.embodiments[0].name}' is a step that adds up. Leave it out, or correct "
                "'relation' in the embodiment."
            )
        self._adds_up = [list(one.adds_up) * cumulative for one in self.embodiments]
        means = [one.mean or (0.0,) * one.width for one in self.embodiments]
        stds = [one.std or (1.0,) * one.width for one in self.embodiments]
        self.register_buffer("mean", torch.tensor([*chain(*means)], dtype=torch.float32))
        self.register_buffer("std", torch.tensor([*chain(*stds)], dtype=torch.float32))

    @property
    def is_of_several(self) -> bool:
        """Whether several robots steer the world, whose actions say whose they are."""
        return len(self.embodiments) > 1

    @property
    def width(self) -> int:
        """Numbers of an action in a batch, A."""
        return told_width(self.embodiments) if self.is_of_several else self.embodiments[0].width

    @property
    def num_inputs(self) -> int:
        """Numbers that lead to a latent frame."""
        own = [
            one.width * self.temporal_factor + len(places)
            for one, places in zip(self.embodiments, self._adds_up, strict=True)
        ]
        return sum(own) + (len(own) if self.is_of_several else 0)

    def of_batch(
        self, batch: Mapping[str, Tensor], batch_size: int, num_latent_frames: int
    ) -> Tensor:
        """Return the grouped ``batch["action"]`` (B, T_pixels - 1, A); see :meth:`group`.

        An image, T = 1, has no action and needs no such entry.

        Raises:
            SampleError: the batch has no actions, or a wrong number of them.
        """
        action_BNA = batch.get("action")
        if num_latent_frames == 1:
            action_BNA = self.mean.new_zeros(batch_size, 0, self.width)
        elif action_BNA is None:
            raise SampleError(
                "The batch has no 'action', which the model's action control needs. Read shards "
                f"with '{ACTION.suffix}' sidecars, or pass the actions when you generate."
            )
        return self.group(action_BNA, num_latent_frames)

    def group(self, action_BNA: Tensor, num_latent_frames: int) -> Tensor:
        """Normalise the actions and concatenate those that lead to each latent frame.

        Args:
            action_BNA: (B, temporal_factor * (T - 1), A) actions in the robot's units; of several
                robots as :mod:`post_training.robotics.several` says.
            num_latent_frames: T.

        Returns:
            (B, T - 1, A * temporal_factor) float32, with a column more for each number that adds
            up if ``cumulative``: the normalised motion since the first frame, in actions a latent
            frame. Of several robots, a block of these for each, and their flags.

        Raises:
            SampleError: the number of actions, or of numbers per action, is wrong.
        """
        num_actions = self.temporal_factor * (num_latent_frames - 1)
        if action_BNA.shape[1:] != (num_actions, self.width):
            of = f"of {', '.join(self.embodiments[0].names)}"
            raise SampleError(
                f"The actions have shape {tuple(action_BNA.shape[1:])}; {num_latent_frames} latent "
                f"frames of {self.temporal_factor} pixel frames need ({num_actions}, "
                f"{self.width}): one action between every two pixel frames, "
                f"{'the place of its embodiment first' if self.is_of_several else of}."
            )
        if not self.is_of_several:
            return self._group_own(action_BNA, 0)
        # Every row goes into the blocks of all robots, and its own is kept: the operations are the
        # same for every batch, and no number of it is asked for on the host.
        place_B11 = action_BNA[:, :1, :1].sum(dim=1, keepdim=True)
        flags_BTE = torch.cat([place_B11 == n for n in range(len(self.embodiments))], dim=-1)
        flags_BTE = flags_BTE.float().expand(-1, num_latent_frames - 1, -1)
        blocks = [
            self._group_own(action_BNA[..., 1 : 1 + one.width], n) * flags_BTE[..., n : n + 1]
            for n, one in enumerate(self.embodiments)
        ]
        return torch.cat([*blocks, flags_BTE], dim=-1)

    def _group_own(self, action_BNA: Tensor, place: int) -> Tensor:
        """Group the numbers of one robot, given its place among the world's."""
        begin = sum(one.width for one in self.embodiments[:place])
        own = slice(begin, begin + self.embodiments[place].width)
        normalised = (action_BNA.float() - self.mean[own].float()) / self.std[own].float()
        num_groups = action_BNA.shape[1] // self.temporal_factor
        groups_BTNA = normalised.unflatten(1, (num_groups, self.temporal_factor))
        grouped_BTA = groups_BTNA.flatten(2)
        if not self._adds_up[place]:
            return grouped_BTA
        so_far_BTA = groups_BTNA[..., self._adds_up[place]].mean(dim=2).cumsum(dim=1)
        return torch.cat([grouped_BTA, so_far_BTA], dim=-1)


def mlp_from_zero(num_inputs: int, num_hidden: int, num_outputs: int) -> nn.Sequential:
    """Two layers with tanh-GELU; the last is zero, so that training starts without an effect."""
    last = nn.Linear(num_hidden, num_outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(num_inputs, num_hidden), nn.GELU(approximate="tanh"), last)
