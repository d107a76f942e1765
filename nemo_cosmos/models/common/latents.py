"""What a family asks of a tokenizer, whichever it is: pixels to latents and back.

Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nemo_cosmos.errors import WrongSizeError


class LatentGrid(Protocol):
    """How pixels map to latents."""

    @property
    def temporal_factor(self) -> int:
        """Pixel frames of a latent frame, but for the first."""
        ...

    @property
    def spatial_factor(self) -> int:
        """Pixels of a latent row or column."""
        ...

    @property
    def num_codes(self) -> int:
        """Codes of a discrete tokenizer; 0 where latents are continuous."""
        ...

    def check_num_frames(self, num_frames: int) -> None:
        """Refuse a length that does not fill whole latent frames.

        Raises:
            WrongFrameCountError: names the nearest that do.
        """
        ...

    def num_pixel_frames(self, num_latent_frames: int, /) -> int:
        """Return the pixel frames of so many latent frames."""
        ...


class LatentCodec(Protocol):
    """A tokenizer: of latents (B,C,T,H,W), or of codes (B,T,H,W) where it is discrete."""

    @property
    def config(self) -> LatentGrid:
        """How pixels map to latents."""
        ...

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape (C,T,H,W) of the latents of a video; of codes, C is 1."""
        ...

    def encode(self, video_BCTHW: Tensor, /) -> Tensor:
        """Return latents_BCTHW, or codes_BTHW, of pixels in [-1, 1]."""
        ...

    def decode(self, latents: Tensor, /) -> Tensor:
        """Return pixels in [-1, 1]."""
        ...


def decode_views(codec: LatentCodec, latents: Tensor, num_views: int = 1) -> Tensor:
    """Decode the latents of each view by themselves, since each begins with a first frame.

    Args:
        codec: the tokenizer.
        latents: the views one after another along T.
        num_views: how many there are.

    Returns:
        video_BCTHW, the views one after another along T.
    """
    if num_views == 1:
        return codec.decode(latents)
    return torch.cat([codec.decode(view) for view in latents.chunk(num_views, dim=2)], dim=2)


def check_side(name: str, value: int, step: int, largest: int) -> None:
    """Require a height or width that a model makes.

    Args:
        name: which of them it is.
        value: pixels.
        step: the model makes multiples of it.
        largest: the most that it makes.

    Raises:
        WrongSizeError: names the nearest that it makes.
    """
    if value % step == 0 and 0 < value <= largest:
        return
    below = min(max(value // step * step, step), largest)
    above = min(below + step, largest)
    nearest = str(below) if below == above else f"{below} and {above}"
    raise WrongSizeError(
        f"The {name} of {value} pixels does not fit this model, which makes multiples of {step} up "
        f"to {largest}. The nearest are {nearest}."
    )
