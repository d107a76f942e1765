"""Speculative coupling: a window of codes at once, exact in distribution.

Every pass draws each place of the window again from its new probabilities q, in a way that keeps
the guess as often as possible: a guess that was drawn from p is kept with the probability
``min(1, q / p)``, else a code is drawn from ``(q - p)+``. Whatever p was, the result is distributed
as q (*maximal coupling*; arXiv 2510.24211). The codes up to the first change are final. A guess
that was not drawn at all has p = 1.

It is exact because the noise of a place never influences an earlier one: given all that happened
before a place, its guess is distributed as p. The codes differ from those of one after the other
with the same seed, which :mod:`~nemo_cosmos.models.autoregressive.decoding.loops` gives.

Shape suffixes: B videos, L places in a row, N = B * L, V codes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import (
    Decoded,
    Job,
    begin,
    check_window,
    settle,
)
from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import probabilities
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.progress import Progress


def decode_coupled(
    scorer: Scorer, job: Job, window: int, drafts: Drafts, progress: Progress | None = None
) -> Decoded:
    """Draw a window of codes at once; the codes are distributed as those of one after the other.

    Args:
        scorer: the network with an empty cache and room for ``window`` more tokens.
        job: what to decode.
        window: places that are drawn in a pass.
        drafts: guesses for places that were never drawn.
        progress: called after every pass with the codes done and wanted.

    Raises:
        ConfigError: the window is no number of places of the video.
    """
    check_window(window, max(job.totals))
    sequences, noise, num_drawn = begin(scorer, job, spare=window)
    prefilled, batch = scorer.num_passes, scorer.batch_size
    # What the guesses of each video were drawn from, from its first unknown place on.
    nothing = torch.zeros(0, scorer.net.config.vocab_size, device=scorer.device)
    drawn_from: list[Tensor] = [nothing] * batch
    while any(sequences.remaining):
        size = min(window, max(sequences.remaining))
        drafts.fill(sequences, size)
        places_BL = sequences.places(size)
        guess_BL = sequences.codes_at(places_BL)
        logits_LBV = scorer.feed(sequences.tokens_before(places_BL))
        new_NV = probabilities(logits_LBV.transpose(0, 1).flatten(0, 1), job.sampling)
        old_BLV = F.one_hot(guess_BL, new_NV.shape[1]).to(new_NV.dtype)
        for row_LV, known in zip(old_BLV, drawn_from, strict=True):
            count = min(len(known), size)
            row_LV[:count] = known[:count]
        drawn_N = couple(
            old_BLV.flatten(0, 1),
            new_NV,
            guess_BL.flatten(),
            noise,
            torch.arange(batch, device=scorer.device).repeat_interleave(size),
            places_BL.flatten(),
            scorer.num_passes,
        )
        accepted = settle(sequences, places_BL, drawn_N.view(batch, size))
        new_BLV = new_NV.view(batch, size, -1)
        drawn_from = [row[count:] for row, count in zip(new_BLV, accepted, strict=True)]
        scorer.roll_back([size - count for count in accepted])
        if progress is not None:
            progress(num_drawn - sum(sequences.remaining), num_drawn)
    return Decoded(sequences.results(), scorer.num_passes - prefilled, num_drawn)


def couple(
    old_NV: Tensor,
    new_NV: Tensor,
    guess_N: Tensor,
    noise: PlaceNoise,
    video_N: Tensor,
    place_N: Tensor,
    number: int,
) -> Tensor:
    """Draw from new probabilities, and keep the guess as often as possible.

    Args:
        old_NV: probabilities that the guesses were drawn from.
        new_NV: probabilities to draw from.
        guess_N: the guesses.
        noise: the noise of the batch.
        video_N: number of the video in the batch.
        place_N: number of the code's place in the video.
        number: number of the pass, from 1: each has noise of its own.
    """
    index_N1 = guess_N[:, None]
    old_N, new_N = old_NV.gather(1, index_N1)[:, 0], new_NV.gather(1, index_N1)[:, 0]
    code_N2 = torch.tensor([[0, 1]], device=guess_N.device).expand(len(guess_N), 2)
    keep_N, redraw_N = noise.uniform(video_N, place_N, code_N2, purpose=number).unbind(1)
    is_kept_N = keep_N * old_N < new_N
    excess_NV = (new_NV - old_NV).clamp(min=0).double()
    # Where nothing is in excess, old and new are equal, and the guess was kept.
    steps_NV = excess_NV.cumsum(-1)
    aim_N1 = (redraw_N * steps_NV[:, -1])[:, None]
    drawn_N = torch.searchsorted(steps_NV, aim_N1, right=True)[:, 0]
    return torch.where(is_kept_N, guess_N, drawn_N.clamp(max=new_NV.shape[1] - 1))
