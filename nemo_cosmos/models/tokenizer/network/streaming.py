"""Encode and decode long videos chunk by chunk, with the result of one pass.

The networks are causal, so a chunk needs of its past only what the causal layers look back at: two
frames for each temporal convolution, and the keys and values of earlier frames for temporal
attention. :class:`CausalCache` keeps these between chunks; memory for activations then depends on
the length of a chunk, not of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nemo_cosmos.errors import InputError, WrongFrameCountError


class CausalCache:
    """What the causal layers of one network remember of the chunks before.

    Args:
        max_attention_frames: largest number of latent frames that temporal attention looks back.
            None, the default, is all of them, which equals one pass; the keys and values then grow
            with the video (two tensors of the middle's width for each latent frame). A number
            bounds them for endless streams.

    Attributes:
        at_start: whether the chunk now running begins the video.
    """

    def __init__(self, max_attention_frames: int | None = None) -> None:
        if max_attention_frames is not None and max_attention_frames < 1:
            raise InputError(
                f"max_attention_frames is {max_attention_frames}; it must be at least 1, or None "
                "to attend to every earlier frame."
            )
        self.max_attention_frames = max_attention_frames
        self.at_start = True
        self._frames: dict[nn.Module, Tensor] = {}
        self._keys_values: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(self, layer: nn.Module, frames_BCTHW: Tensor) -> None:
        """Remember the last frames that a layer saw."""
        self._frames[layer] = frames_BCTHW.clone()  # not a view, which would keep the whole chunk

    def recall(self, layer: nn.Module) -> Tensor:
        """Return the frames that :meth:`keep` stored in the chunk before."""
        return self._frames[layer]

    def extend_attention(self, layer: nn.Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values (..., frames, channels) to those kept; return all of them."""
        if layer in self._keys_values:
            past_k, past_v = self._keys_values[layer]
            if self.max_attention_frames is not None:
                past_k = past_k[..., -self.max_attention_frames :, :]
                past_v = past_v[..., -self.max_attention_frames :, :]
            k, v = torch.cat([past_k, k], dim=-2), torch.cat([past_v, v], dim=-2)
        self._keys_values[layer] = k, v
        return k, v


class StreamingEncoder:
    """Encodes a video that arrives in chunks.

    Args:
        encode: a network's ``encode``, called with a chunk and the cache.
        temporal_factor: f, frames per latent; the first chunk has 1 + f n frames, later ones f n.
        max_attention_frames: see :class:`CausalCache`.
    """

    def __init__(
        self,
        encode: Callable[[Tensor, CausalCache], Tensor],
        temporal_factor: int,
        max_attention_frames: int | None = None,
    ) -> None:
        self._encode = encode
        self._factor = temporal_factor
        self._cache = CausalCache(max_attention_frames)

    def push(self, chunk_BCTHW: Tensor) -> Tensor:
        """Encode the next chunk and return its latents.

        Raises:
            WrongFrameCountError: the chunk's length is not legal at this place.
        """
        first = int(self._cache.at_start)
        num_frames = chunk_BCTHW.shape[2]
        if num_frames < 1 or (num_frames - first) % self._factor:
            legal = f"1 + {self._factor}n" if first else f"{self._factor}n"
            place = "the first" if first else "a later"
            below = first + (num_frames - first) // self._factor * self._factor
            raise WrongFrameCountError(
                f"A chunk of {num_frames} frames cannot be {place} one of a stream: it takes "
                f"{legal} frames, so the nearest are {max(below, first or self._factor)} and "
                f"{below + self._factor}. Hold the other frames back for the next chunk."
            )
        latents = self._encode(chunk_BCTHW, self._cache)
        self._cache.at_start = False
        return latents


class StreamingDecoder:
    """Decodes latents that arrive in chunks of any length.

    Args:
        decode: a network's ``decode``, called with a chunk and the cache.
        max_attention_frames: see :class:`CausalCache`.
    """

    def __init__(
        self,
        decode: Callable[[Tensor, CausalCache], Tensor],
        max_attention_frames: int | None = None,
    ) -> None:
        self._decode = decode
        self._cache = CausalCache(max_attention_frames)

    def push(self, latents: Tensor) -> Tensor:
        """Decode the next latents: 1 + f (t - 1) frames for the first chunk, f t for later ones."""
        video_BCTHW = self._decode(latents, self._cache)
        self._cache.at_start = False
        return video_BCTHW


def chunk_bounds(num_frames: int, first: int, later: int) -> Iterator[tuple[int, int]]:
    """Start and end of each chunk when the first has ``first`` frames and others ``later``."""
    start, end = 0, min(first, num_frames)
    while start < num_frames:
        yield start, end
        start, end = end, min(end + later, num_frames)
