"""What the embedders of controls have to know of the network and of the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from nemo_cosmos.models.common.latents import LatentGrid


@dataclass(frozen=True)
class TokenizerFacts:
    """What a network must know of the tokenizer that made its latents or codes.

    Attributes:
        temporal_factor: pixel frames per latent frame, except for the first.
        spatial_factor: pixels per latent row or column.
    """

    temporal_factor: int = 8
    spatial_factor: int = 8

    @classmethod
    def of(cls, tokenizer: LatentGrid) -> Self:
        """Return the factors of a tokenizer."""
        return cls(tokenizer.temporal_factor, tokenizer.spatial_factor)


@dataclass(frozen=True)
class NetworkDims:
    """What an embedder may need to know about the network and the tokenizer.

    Attributes:
        hidden_size: D, the network's width.
        context_size: channels of the cross-attention context.
        temporal_factor: pixel frames per latent frame, except for the first.
        spatial_factor: pixels per latent row or column.
        patch_thw: latent frames, rows and columns of a token.
        latent_channels: channels of the latents.
    """

    hidden_size: int
    context_size: int
    temporal_factor: int
    spatial_factor: int
    patch_thw: tuple[int, int, int] = (1, 2, 2)
    latent_channels: int = 16
