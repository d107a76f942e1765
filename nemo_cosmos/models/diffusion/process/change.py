"""Learn how a video changes since its first frame, instead of what it looks like.

A model that is given the first frame has to bring it through to every later frame before anything
can move. From few recordings it learns the rooms that they were made in by heart, and a new room
comes out as a mixture of those. With ``ConditioningConfig.predicts_change`` the process runs on

    d_t = x_t - x_0    at the frames that are not given,

where x_0 is the first latent of the same view. What stands still is 0 in any room, and what is left
to explain, and so the whole loss, is what moves. Given frames stay as they are, so that the network
sees the room; so does a sample that is given no first frame. After sampling x_0 is added again.

Pictures are made in the same way. What a tokenizer loses of a frame it loses of the same frame
standing still, so that a video is

    first picture + decoded(x) - decoded(x_0 at every frame),

which leaves everything that stands still as sharp as it was given.

A control may know more of where things will be than that they stay: a camera that turns carries the
whole picture with it. It then gives ``ControlEmbedding.change_base_BCTHW``, which takes the place
of x_0, and the pictures that take the place of the first one.

Shape suffixes: B batch, C channels, T latent frames, H W latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding


def first_frames(latent_BCTHW: Tensor, num_views: int = 1) -> Tensor:
    """Return the first frame of each view, at every frame of the view.

    Args:
        latent_BCTHW: latents of the whole video.
        num_views: number of views, one after another along the time axis.
    """
    latent_BCVTHW = latent_BCTHW.unflatten(2, (num_views, -1))
    return latent_BCVTHW[:, :, :, :1].expand_as(latent_BCVTHW).flatten(2, 3)


def changing_frames(given_BT: Tensor, num_views: int = 1) -> Tensor:
    """Return which frames are a change: those not given, of views whose first frame is.

    Args:
        given_BT: whether each frame is given.
        num_views: number of views, one after another along the time axis.
    """
    given_BVT = (given_BT > 0).unflatten(1, (num_views, -1))
    return torch.logical_and(~given_BVT, given_BVT[:, :, :1]).flatten(1)


def shown_first_frames(first_BCTHW: Tensor, given_BT: Tensor, num_views: int = 1) -> Tensor:
    """Return the first frames for controls: 0 in views whose first frame is not given.

    Args:
        first_BCTHW: what :func:`first_frames` returns.
        given_BT: whether each frame is given.
        num_views: number of views, one after another along the time axis.
    """
    given_BVT = (given_BT > 0).unflatten(1, (num_views, -1))
    is_given_BT = given_BVT[:, :, :1].expand_as(given_BVT).flatten(1)
    return first_BCTHW * is_given_BT[:, None, :, None, None].to(first_BCTHW.dtype)


def base_of_change(
    first_BCTHW: Tensor, changing_BT: Tensor, embedding: ControlEmbedding | None = None
) -> Tensor:
    """Return what is taken off the latents before noise is added, and added after sampling.

    Args:
        first_BCTHW: what :func:`first_frames` returns.
        changing_BT: what :func:`changing_frames` returns.
        embedding: the controls' sum; one of them may know better than the first frame.
    """
    if embedding is not None and embedding.change_base_BCTHW is not None:
        first_BCTHW = embedding.change_base_BCTHW
    return first_BCTHW * changing_BT[:, None, :, None, None].to(first_BCTHW.dtype)


def change_of_pictures(
    video_BCTHW: Tensor, still_BCTHW: Tensor, given: Sequence[Tensor | None]
) -> Tensor:
    """Return the first pictures, changed as the decoded video changes; in [-1, 1].

    Args:
        video_BCTHW: the decoded sample, the views one after another along T.
        still_BCTHW: the decoded first latent of each view, or what takes its place, at every frame
            of the view.
        given: the first picture of each view, ``(B, C, 1, H, W)``, or what takes its place, one a
            frame; a view without one stays as it is.
    """
    views = zip(
        given,
        video_BCTHW.chunk(len(given), dim=2),
        still_BCTHW.chunk(len(given), dim=2),
        strict=True,
    )
    made = [
        video if first is None else (first.to(video) + video - still).clamp(-1, 1)
        for first, video, still in views
    ]
    return torch.cat(made, dim=2)
