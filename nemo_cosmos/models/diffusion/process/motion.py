"""Weights of the loss that follow motion.

In a recording of a robot most of the picture stands still, and a model that repeats its first
frame is nearly right. What an action decides is a small share of the picture and of the loss, which
an action-conditioned model therefore learns late, or never. Here a place counts by how much it
changes:

    w = (1 + m r) / (1 + m),    m = motion_weight sigma^2 / (sigma^2 + sigma_data^2),

where r is the change of the latents there since the first frame (mean over the channels), relative
to the mean of all later frames. The mean weight is 1 whatever m is, so that the learning rate stays
right. Where there is much noise a sample's layout is decided, and motion counts; where there is
little, its texture, and every place counts alike. Without that, still places come out grainy.

Shape suffixes: B batch, C channels, T latent frames, H W latent rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nemo_cosmos.models.diffusion.process.edm import EDMConfig


def relative_motion(latent_BCTHW: Tensor, num_views: int = 1) -> Tensor:
    """Return r_BTHW: how much each place has changed since the first frame, with a mean of 1.

    The first frame has r = 1, and so has every place of a video that stands still.

    Args:
        latent_BCTHW: clean latents of the whole video.
        num_views: number of views, one after another along the time axis, each with a first frame.
    """
    latent_BCVTHW = latent_BCTHW.float().unflatten(2, (num_views, -1))
    change_BVTHW = (latent_BCVTHW[:, :, :, 1:] - latent_BCVTHW[:, :, :, :1]).abs().mean(dim=1)
    mean_B1111 = change_BVTHW.mean(dim=(1, 2, 3, 4), keepdim=True)
    later_BVTHW = torch.where(mean_B1111 > 0, change_BVTHW / mean_B1111, 1.0)
    first_BV1HW = torch.ones_like(latent_BCVTHW[:, 0, :, :1])
    return torch.cat([first_BV1HW, later_BVTHW], dim=2).flatten(1, 2)


def motion_weights(relative_BTHW: Tensor, sigma_B: Tensor, config: EDMConfig) -> Tensor:
    """Return w_BTHW, the weight of each place in the loss.

    Args:
        relative_BTHW: what :func:`relative_motion` returns, or a box of it.
        sigma_B: the noise levels.
        config: the process, with ``motion_weight``.
    """
    hidden_B = sigma_B**2 / (sigma_B**2 + config.sigma_data**2)
    weight_B111 = (config.motion_weight * hidden_B.to(relative_BTHW))[:, None, None, None]
    return (1 + weight_B111 * relative_BTHW) / (1 + weight_B111)
