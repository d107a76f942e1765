"""Guesses of the codes ahead: that of the frame before, and those of a network's heads.

A head's guess is no likely code but a likely draw: its scores get the noise of the place, which is
known before the code is.

Shape suffixes: B videos, K heads, R ranks, N = K * B, V codes, E model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, draw_best
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.sequences import Sequences
from nemo_cosmos.models.autoregressive.heads.module import Heads


@dataclass(frozen=True)
class Guesser:
    """Heads, and all that they need to guess draws.

    Attributes:
        scorer: the network.
        heads: its heads.
        sampling: how codes are drawn.
        noise: the noise of the batch.
    """

    scorer: Scorer
    heads: Heads
    sampling: Sampling
    noise: PlaceNoise

    def guess(
        self, x_LBE: Tensor, last: Sequence[int], sequences: Sequences, num_ranks: int
    ) -> Tensor:
        """Guess the next codes of each video; returns guess_KBR.

        The first guess is the code at the same place of the frame before, the others are the
        heads', the best first.

        Args:
            x_LBE: what the last pass gave.
            last: number of the token, for each video, behind which its last known code was drawn.
            sequences: the videos.
            num_ranks: guesses of a code.
        """
        best_KBR = self.best(x_LBE, last, sequences, num_ranks - 1)
        place_BK = sequences.places(self.heads.num_heads)
        # A frame may have fewer codes than there are heads: then the place has no code so far.
        before_BK = place_before(place_BK, self.scorer).clamp(max=max(sequences.totals) - 1)
        before_BK = sequences.codes_at(before_BK)
        return torch.cat([before_BK.t()[..., None], best_KBR], dim=-1)

    def best(
        self, x_LBE: Tensor, last: Sequence[int], sequences: Sequences, num_ranks: int
    ) -> Tensor:
        """Return the heads' guesses alone; see :meth:`guess`."""
        logits_KBV = self.scorer.score_ahead(self.scorer.tokens_at(x_LBE, last), self.heads)
        num_heads, batch, _ = logits_KBV.shape
        place_N = sequences.places(num_heads).t().flatten()
        video_N = torch.arange(batch, device=self.scorer.device).repeat(num_heads)
        best_NR = draw_best(
            logits_KBV.flatten(0, 1), self.sampling, self.noise, video_N, place_N, num_ranks
        )
        return best_NR.view(num_heads, batch, num_ranks)

    def fill(
        self, x_LBE: Tensor, last: Sequence[int], sequences: Sequences, num_places: int
    ) -> None:
        """Write guesses in the next places, in place of older ones.

        Args:
            x_LBE: as of :meth:`guess`.
            last: as of :meth:`guess`.
            sequences: the videos.
            num_places: most places.
        """
        guess_KB = self.best(x_LBE, last, sequences, 1)[:num_places, :, 0]
        num = len(guess_KB)
        sequences.write(sequences.places(num), guess_KB.t())
        pairs = zip(sequences.known, sequences.guessed, strict=True)
        sequences.guessed = [max(known + num, guessed) for known, guessed in pairs]


def place_before(place: Tensor, scorer: Scorer) -> Tensor:
    """Return the same place of the frame before; the first of all where there is no such frame."""
    _, rows, columns = scorer.grid_thw
    return (place - rows * columns).clamp(min=0)
