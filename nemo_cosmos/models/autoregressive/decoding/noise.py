"""Gumbel noise of every code at every place of a video, by a counter.

Sampling from probabilities p is the same as taking the largest of ``log p + g`` with independent
Gumbel noise g. Here g is a function of the seed, the place and the code, so that the code at a
place is a function of the seed and of the codes before it, in whatever order places are computed.
That is what makes decoding many places at once exact (Wiggers and Hoogeboom, ICML 2020,
arXiv 2002.09928).

Nothing is kept: a table for 12,800 places and 64,000 codes would take 3 GB.

Shape suffixes: N places, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nemo_cosmos.models.common.philox import NUM_WORDS, philox

DRAWS = 0
"""What noise is for, the fourth word of the counter; passes of a coupling take further numbers."""


class PlaceNoise:
    """Noise of the videos of a batch.

    Args:
        seeds: seed of each video, from 0 to 2^63 - 1.
        stream: number of the video where a long one is made of several; each has noise of its own.
        device: where the noise is computed.
    """

    def __init__(
        self, seeds: Sequence[int], stream: int = 0, device: torch.device | None = None
    ) -> None:
        self.seed_B = torch.tensor(list(seeds), dtype=torch.int64, device=device)
        self.stream = stream

    def gumbel(
        self, video_N: Tensor, place_N: Tensor, code_NK: Tensor, purpose: int = DRAWS
    ) -> Tensor:
        """Return Gumbel noise (N, K), float32.

        Args:
            video_N: number of the video in the batch.
            place_N: number of the code's place in the video, from 0.
            code_NK: codes; each row has its own.
            purpose: what it is drawn for.
        """
        return -(-self.uniform(video_N, place_N, code_NK, purpose).log()).log().float()

    def uniform(
        self, video_N: Tensor, place_N: Tensor, code_NK: Tensor, purpose: int = DRAWS
    ) -> Tensor:
        """Return numbers above 0 and below 1, (N, K), float64; the arguments of :meth:`gumbel`."""
        seed_N1, place_N1 = self.seed_B[video_N][:, None], place_N[:, None]
        stream, tag = (torch.full_like(place_N1, value) for value in (self.stream, purpose))
        # Four neighbouring codes share a counter, which gives four words.
        words = philox((code_NK // NUM_WORDS, place_N1, stream, tag), seed_N1)
        word_NK = torch.stack(words, dim=-1).gather(-1, (code_NK % NUM_WORDS)[..., None])[..., 0]
        return (word_NK.double() + 0.5) * 2.0**-32

    def gumbel_of_all(self, video_N: Tensor, place_N: Tensor, num_codes: int) -> Tensor:
        """Return the noise of all codes, (N, V), in a quarter of the time."""
        groups = -(-num_codes // NUM_WORDS)
        counter_1K = torch.arange(groups, device=place_N.device)[None]
        seed_N1, place_N1 = self.seed_B[video_N][:, None], place_N[:, None]
        stream, tag = (torch.full_like(place_N1, value) for value in (self.stream, DRAWS))
        words = philox((counter_1K, place_N1, stream, tag), seed_N1)
        uniform_NV = (
            torch.stack(words, dim=-1).flatten(1)[:, :num_codes].double() + 0.5
        ) * 2.0**-32
        return -(-uniform_NV.log()).log().float()
