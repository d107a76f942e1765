"""Channels on a latent's grid as the network's tokens see them."""

from __future__ import annotations

from torch import Tensor


def token_patches(values_BCTHW: Tensor, patch_thw: tuple[int, int, int]) -> Tensor:
    """The values of each token's cells, ``(B, t, h, w, C * cells)``.

    Args:
        values_BCTHW: channels on the latent's grid.
        patch_thw: latent frames, rows and columns of a token.
    """
    batch, channels, *size = values_BCTHW.shape
    (t, pt), (h, ph), (w, pw) = (
        (length // patch, patch) for length, patch in zip(size, patch_thw, strict=True)
    )
    split = values_BCTHW.reshape(batch, channels, t, pt, h, ph, w, pw)
    return split.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
