"""Weights of the loss that follow motion.

In a recording of a robot most of the picture stands still, and a model that repeats its first
frame is nearly right. What an action decides is a small share of the picture and of the loss, which
an action-conditioned model therefore learns late, or never. Here a place counts by how much it
changes:

    w = (1 + m r) / (1 + m),

where r is the change of the latents there since the first frame (mean over the channels), relative
to the mean of all later frames, and m is ``EDMConfig.motion_weight``. The mean weight is 1 whatever
m is, so that the learning rate stays right; for m = 0 every place counts alike.

Shape suffixes: B batch, C channels, T latent frames, H W latent rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor


def relative_motion(latent_BCTHW: Tensor) -> Tensor:
    """Return r_BTHW: how much each place has changed since the first frame, with a mean of 1.

    The first frame has r = 1, and so has every place of a video that stands still.

    Args:
        latent_BCTHW: clean latents of the whole video.
    """
    latent_BCTHW = latent_BCTHW.float()
    change_BTHW = (latent_BCTHW[:, :, 1:] - latent_BCTHW[:, :, :1]).abs().mean(dim=1)
    mean_B111 = change_BTHW.mean(dim=(1, 2, 3), keepdim=True)
    later_BTHW = torch.where(mean_B111 > 0, change_BTHW / mean_B111, 1.0)
    return torch.cat([torch.ones_like(latent_BCTHW[:, 0, :1]), later_BTHW], dim=1)


def motion_weights(relative_BTHW: Tensor, motion_weight: float) -> Tensor:
    """Return w_BTHW, the weight of each place in the loss.

    Args:
        relative_BTHW: what :func:`relative_motion` returns, or a box of it.
        motion_weight: m, the weight of motion; 0 or more.
    """
    return (1 + motion_weight * relative_BTHW) / (1 + motion_weight)
