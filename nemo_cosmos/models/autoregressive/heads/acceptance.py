"""How often guesses are what the network draws.

Shape suffixes: P codes of a video, K heads, R ranks, V codes, E model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nemo_cosmos.models.autoregressive.decoding.guesses import place_before
from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, draw_best
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.heads.module import Heads

USUAL_RANKS = 8


@torch.no_grad()
def count_right(
    scorer: Scorer,
    heads: Heads,
    codes_P: Tensor,
    num_given: int,
    seed: int,
    sampling: Sampling,
    num_ranks: int = USUAL_RANKS,
) -> tuple[Tensor, Tensor]:
    """Compare all guesses for a video that the network itself drew with its codes.

    The guesses are those of :meth:`~nemo_cosmos.models.autoregressive.decoding.guesses.Guesser.
    guess`. A guess is right or wrong behind right codes alone, as in a tree: so the codes must be
    those that were drawn, with this seed.

    Args:
        scorer: the network with an empty cache, for one video.
        heads: what guesses, besides the frame before.
        codes_P: the video's codes.
        num_given: how many were given, not drawn.
        seed: seed of the draws.
        sampling: how they were drawn.
        num_ranks: R.

    Returns:
        right_KR, how often each guess was right, and num_K, of how many.
    """
    begin = [torch.tensor([scorer.net.config.begin_id])] if scorer.begins else []
    tokens_L = torch.cat([*begin, codes_P.cpu()])[:-1].to(scorer.device)
    x_LBE = scorer.run(tokens_L[None])
    noise = PlaceNoise([seed], device=scorer.device)
    codes_P, first = codes_P.to(scorer.device), 1 - scorer.begins
    right_KR = torch.zeros(heads.num_heads, num_ranks, device=scorer.device)
    num_K = torch.zeros(heads.num_heads, device=scorer.device)
    for head in range(heads.num_heads):
        place_N = torch.arange(num_given, len(codes_P), device=scorer.device)
        # Token l precedes the code at place first + l, and this head scores one further on.
        token_N = place_N - first - (head + 1)
        place_N, token_N = place_N[token_N >= 0], token_N[token_N >= 0]
        if not len(place_N):
            continue
        logits_NV = scorer.score_by(x_LBE[token_N], heads, head)[:, 0]
        video_N = torch.zeros_like(place_N)
        best_NR = draw_best(logits_NV, sampling, noise, video_N, place_N, num_ranks - 1)
        before_N1 = codes_P[place_before(place_N, scorer)][:, None]
        is_right_NR = torch.cat([before_N1, best_NR], dim=1) == codes_P[place_N][:, None]
        # A code that is guessed twice counts at the first rank alone.
        is_right_NR &= is_right_NR.cumsum(1) == 1
        right_KR[head] += is_right_NR.sum(0)
        num_K[head] += len(place_N)
    return right_KR, num_K


def acceptance_of(counts: Sequence[tuple[Tensor, Tensor]]) -> list[list[float]]:
    """Return the rates of all videos that :func:`count_right` counted.

    Args:
        counts: what it gave for each video.
    """
    right_KR = torch.stack([right for right, _ in counts]).sum(0)
    num_K = torch.stack([num for _, num in counts]).sum(0)
    rates: list[list[float]] = (right_KR / num_K.clamp(min=1)[:, None]).tolist()
    return rates
