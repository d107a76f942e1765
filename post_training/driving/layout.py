"""The layout control's embedder: what a map draws into each picture is added to its tokens.

The layout videos of all views pass the tokenizer of the pictures. Their latent lies on the same
grid, so that a patch embedding of its own, which starts at zero, adds to each token what is drawn
at its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from nemo_cosmos.controls import LAYOUT
from nemo_cosmos.errors import SampleError
from nemo_cosmos.models.diffusion.controls import ControlEmbedder, ControlEmbedding, NetworkDims
from post_training.patches import token_patches

LATENT_CHANNELS = 16
"""Channels of a latent of every published tokenizer."""


class LayoutEmbedder(ControlEmbedder):
    """Embeds the latent of layout videos."""

    def __init__(
        self,
        hidden_size: int,
        patch_thw: tuple[int, int, int] = (1, 2, 2),
        channels: int = LATENT_CHANNELS,
    ) -> None:
        """Make the branch.

        Args:
            hidden_size: D, the network's width.
            patch_thw: latent frames, rows and columns of a token.
            channels: channels of the latent.
        """
        super().__init__()
        self.patch_thw = patch_thw
        self.channels = channels
        self.patches = nn.Linear(channels * math.prod(patch_thw), hidden_size)
        nn.init.zeros_(self.patches.weight)
        nn.init.zeros_(self.patches.bias)

    @classmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        """Make the control; ``options`` may hold ``channels``."""
        return cls(dims.hidden_size, dims.patch_thw, **options)

    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        """Embed ``batch["layout"]``, which has the latents' own shape.

        Raises:
            SampleError: there is none, or it has another shape.
        """
        layout_BCTHW = batch.get(LAYOUT.name)
        wanted = (latent_shape_BCTHW[0], self.channels, *latent_shape_BCTHW[2:])
        if layout_BCTHW is None or tuple(layout_BCTHW.shape) != wanted:
            found = "none" if layout_BCTHW is None else f"shape {tuple(layout_BCTHW.shape)}"
            raise SampleError(
                f"The model's layout control needs the latent of the layout videos, "
                f"'{LAYOUT.name}' of shape {wanted}, and the batch has {found}. Tokenize clips "
                "with '{key}.layout.mp4' beside their videos, of the same frames and size."
            )
        patches = token_patches(layout_BCTHW, self.patch_thw).to(self.patches.weight.dtype)
        tokens_BthwD: Tensor = self.patches(patches)
        return ControlEmbedding(tokens_BDthw=tokens_BthwD.permute(0, 4, 1, 2, 3))
