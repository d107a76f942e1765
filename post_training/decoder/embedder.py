"""Codes as further channels of a diffusion model's input (Cosmos paper, section 5.3.5).

Each code becomes a vector, the grid of vectors is scaled to the grid of the latents, bilinearly,
and joined to the noisy latents as channels.

Shape suffixes: B batch, C channels of a code, T latent frames, H W rows and columns of the latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.errors import SampleError
from nemo_cosmos.models.diffusion.controls import ControlEmbedder, ControlEmbedding, NetworkDims
from post_training.decoder.signal import DISCRETE, USUAL_WIDTH


class CodesEmbedder(ControlEmbedder):
    """Embeds the codes of a discrete tokenizer whose latent frames are the model's own.

    Args:
        num_codes: size of the codebook.
        width: channels of a code.
    """

    def __init__(self, num_codes: int, width: int = USUAL_WIDTH) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_codes, width)
        self.num_latent_channels = width

    @classmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        """Make the control; ``options`` are the arguments."""
        del dims
        return cls(**options)

    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        """Embed ``batch["discrete"]`` (B, T, h, w) for latents of T frames.

        Raises:
            SampleError: there are no codes, they are of other frames, or outside the codebook.
        """
        codes_BTHW = batch.get("discrete")
        if codes_BTHW is None:
            raise SampleError(
                f"The batch has no 'discrete', the codes that the model decodes. Read shards with "
                f"'{DISCRETE.suffix}' sidecars ('nemo-cosmos dataset codes')."
            )
        frames, *sides = latent_shape_BCTHW[2:]
        num_codes = self.embedding.num_embeddings
        if codes_BTHW.dim() != 4 or codes_BTHW.shape[1] != frames:
            raise SampleError(
                f"The codes have shape {tuple(codes_BTHW.shape[1:])}, but the latents have "
                f"{frames} frames. Take a discrete tokenizer with the temporal factor of the "
                "latents' tokenizer."
            )
        if bool((codes_BTHW >= num_codes).any()) or bool((codes_BTHW < 0).any()):
            raise SampleError(
                f"A code of {int(codes_BTHW.max())} is outside the codebook of {num_codes} that "
                "the decoder was made for. Decode codes of the tokenizer that it was trained with."
            )
        embedded_BTHWC = self.embedding(codes_BTHW.long())
        embedded_NCHW = embedded_BTHWC.permute(0, 1, 4, 2, 3).flatten(0, 1)
        scaled_NCHW = scaled(embedded_NCHW, (sides[0], sides[1]))
        scaled_BTCHW = scaled_NCHW.unflatten(0, codes_BTHW.shape[:2])
        return ControlEmbedding(latent_channels_BCTHW=scaled_BTCHW.transpose(1, 2))


def scaled(x_NCHW: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Scale to another grid, bilinearly; a grid of the same size stays as it is."""
    if x_NCHW.shape[-2:] == torch.Size(size_hw):
        return x_NCHW
    return F.interpolate(x_NCHW, size=size_hw, mode="bilinear", align_corners=False)
