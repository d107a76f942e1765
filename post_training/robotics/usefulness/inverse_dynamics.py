"""An inverse-dynamics network: the action that lies between two neighbouring frames.

What it sees of a step is coarse: the optical flow from one frame to the next, the first frame, and
the change of brightness, each averaged over the cells of a grid. A small network maps that to the
action's numbers. Coarse means quick (a few seconds for a thousand steps on one core) and frugal: a
handful of episodes teaches it something, so that it shows what more episodes would add.

Shape suffixes: N steps, C channels of what is seen, H height and W width of the grid, A numbers of
an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nemo_cosmos.errors import SampleError, WrongSizeError
from nemo_cosmos.perception.flow import MIN_SIDE_PX, forward_flow

GRID_HW = (12, 16)
NUM_CHANNELS = 8
"""Flow (2), colours of the first frame (3), and their change (3)."""

_FLOW_WIDTH_PX = 128
"""Flow counts as in a picture of this width, so that the video's size does not matter."""
_MIN_STD = 1e-3


@dataclass(frozen=True)
class Steps:
    """The steps of one episode.

    Attributes:
        seen_NCHW: float32, what :func:`see` makes of the frames.
        actions_NA: float32, the action of each step.
    """

    seen_NCHW: NDArray[np.float32]
    actions_NA: NDArray[np.float32]


@dataclass(frozen=True)
class Training:
    """How the network is trained.

    Attributes:
        num_updates: updates of the weights.
        batch_size: steps an update.
        learning_rate: the peak; it rises over the first tenth and then falls to zero.
        weight_decay: of AdamW.
        dropout: share of the inputs and of the hidden numbers that an update does not see.
        noise: standard deviation of the noise on the normalised inputs.
        num_hidden: width.
    """

    num_updates: int = 400
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.5
    dropout: float = 0.2
    noise: float = 0.2
    num_hidden: int = 128


def see(frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the network sees of a video's steps, ``(T-1, C, H, W)`` float32.

    Args:
        frames_THWC: RGB frames.

    Raises:
        WrongSizeError: they are too small for optical flow.
    """
    if min(frames_THWC.shape[1:3]) < MIN_SIDE_PX:
        raise WrongSizeError(
            f"The frames are {frames_THWC.shape[1]}x{frames_THWC.shape[2]} pixels; optical flow "
            f"needs at least {MIN_SIDE_PX} a side. Use larger videos."
        )
    flow_NHW2 = forward_flow(frames_THWC) * (_FLOW_WIDTH_PX / frames_THWC.shape[2])
    pictures_THWC = np.stack([_averaged(frame / np.float32(127.5) - 1) for frame in frames_THWC])
    parts = (
        np.stack([_averaged(step) for step in flow_NHW2]),
        pictures_THWC[:-1],
        np.diff(pictures_THWC, axis=0),
    )
    return np.concatenate(parts, axis=-1).transpose(0, 3, 1, 2).astype(np.float32)


def _averaged(picture_HWC: NDArray[np.float32]) -> NDArray[np.float32]:
    """The picture's means over the cells of the grid."""
    rows, columns = GRID_HW
    made = cv2.resize(picture_HWC, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(made, np.float32)


class InverseDynamics(nn.Module):
    """From what is seen of a step to its action; it knows its own normalisation.

    Args:
        num_actions: A.
        training: width and dropout.
    """

    seen_mean: Tensor
    seen_std: Tensor
    action_mean: Tensor
    action_std: Tensor

    def __init__(self, num_actions: int, training: Training) -> None:
        super().__init__()
        self.noise = training.noise
        hidden = training.num_hidden
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(training.dropout),
            nn.Linear(NUM_CHANNELS * GRID_HW[0] * GRID_HW[1], hidden),
            nn.GELU(),
            nn.Dropout(training.dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, num_actions),
        )
        self.register_buffer("seen_mean", torch.zeros(1, NUM_CHANNELS, *GRID_HW))
        self.register_buffer("seen_std", torch.ones(1, NUM_CHANNELS, 1, 1))
        self.register_buffer("action_mean", torch.zeros(num_actions))
        self.register_buffer("action_std", torch.ones(num_actions))

    def normalise_by(self, seen_NCHW: Tensor, actions_NA: Tensor) -> None:
        """Take the statistics of these steps."""
        self.seen_mean = seen_NCHW.mean(0, keepdim=True)
        self.seen_std = seen_NCHW.std((0, 2, 3), keepdim=True).clamp_min(_MIN_STD)
        self.action_mean = actions_NA.mean(0)
        self.action_std = actions_NA.std(0).clamp_min(_MIN_STD)

    def forward(self, seen_NCHW: Tensor) -> Tensor:
        """Return the normalised actions (N, A)."""
        normalised = (seen_NCHW - self.seen_mean) / self.seen_std
        if self.training:
            normalised = normalised + self.noise * torch.randn_like(normalised)
        result: Tensor = self.layers(normalised)
        return result

    @torch.no_grad()
    def actions(self, seen_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the action of each step, ``(N, A)`` in the units of the training actions."""
        self.eval()
        normalised_NA = self(torch.from_numpy(seen_NCHW))
        return np.asarray((normalised_NA * self.action_std + self.action_mean).numpy())


def train_inverse_dynamics(
    first: Sequence[Steps],
    then: Sequence[Steps] = (),
    training: Training | None = None,
    seed: int = 0,
) -> InverseDynamics:
    """Train a network; the same arguments give the same one.

    Args:
        first: episodes to learn from.
        then: episodes to learn from in a second course of the same length, which leaves off less
            far from them: real ones after generated ones.
        training: how.
        seed: seed of the weights, the order and the noise.

    Raises:
        SampleError: there is no step, or the actions of two episodes have different widths.
    """
    how = training or Training()
    courses = [_joined(episodes) for episodes in (first, then) if episodes]
    if not courses or any(len(actions_NA) == 0 for _, actions_NA in courses):
        raise SampleError("There is no step between two frames to learn from; give episodes.")
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Matrices this small are slower on several threads than on one.
        torch.set_num_threads(1)
        try:
            network = InverseDynamics(courses[0][1].shape[1], how)
            # Real actions, where there are any, set the scale.
            network.normalise_by(*courses[-1])
            for seen_NCHW, actions_NA in courses:
                _course(network, seen_NCHW, actions_NA, how)
        finally:
            torch.set_num_threads(threads)
    return network


def _joined(episodes: Sequence[Steps]) -> tuple[Tensor, Tensor]:
    """The steps of several episodes, one after the other."""
    widths = sorted({episode.actions_NA.shape[1] for episode in episodes})
    if len(widths) > 1:
        raise SampleError(
            f"The actions of the episodes have {' and '.join(map(str, widths))} numbers; expected "
            "one robot's. Put the episodes of each robot into a folder of its own."
        )
    return (
        torch.from_numpy(np.concatenate([episode.seen_NCHW for episode in episodes])),
        torch.from_numpy(np.concatenate([episode.actions_NA for episode in episodes])),
    )


def _course(
    network: InverseDynamics, seen_NCHW: Tensor, actions_NA: Tensor, training: Training
) -> None:
    """Train the network on these steps."""
    network.train()
    wanted_NA = (actions_NA - network.action_mean) / network.action_std
    optimizer = torch.optim.AdamW(
        network.parameters(), training.learning_rate, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, training.num_updates, pct_start=0.1
    )
    for _ in range(training.num_updates):
        rows = torch.randint(len(seen_NCHW), (training.batch_size,))
        # Beyond half a standard deviation an error counts linearly: some labels are far off.
        loss = F.smooth_l1_loss(network(seen_NCHW[rows]), wanted_NA[rows], beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
