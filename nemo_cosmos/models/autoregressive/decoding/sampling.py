"""From scores to a code: temperature, top-k, top-p, and the draw.

Shape suffixes: N places, V codes, K kept codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.platform import by_device

FIRST_KEPT = 64
"""How many of the best codes top-p looks at first on a CPU, where sorting all is slow."""


@dataclass(frozen=True)
class Sampling:
    """How a code is drawn.

    Attributes:
        temperature: divides the scores; 0 takes the best code.
        top_k: keeps so many of the best codes; 0 keeps all.
        top_p: keeps the best codes whose probabilities, together, reach this; 1 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def keeps_all(self) -> bool:
        """Whether every code can be drawn."""
        return not self.top_k and self.top_p >= 1.0


class Kept(NamedTuple):
    """The codes that can be drawn, the best first.

    Attributes:
        scores_NK: scores over the temperature; minus infinity for a code that cannot be drawn.
        code_NK: the codes.
    """

    scores_NK: Tensor
    code_NK: Tensor


def draw(
    logits_NV: Tensor, sampling: Sampling, noise: PlaceNoise, video_N: Tensor, place_N: Tensor
) -> Tensor:
    """Draw a code at each place, (N,) int64: a function of scores, seed and place alone.

    Args:
        logits_NV: scores of all codes.
        sampling: how to draw.
        noise: the noise of the batch.
        video_N: number of the video in the batch.
        place_N: number of the code's place in the video.
    """
    if sampling.temperature == 0:
        return logits_NV.argmax(-1)
    if sampling.keeps_all:
        scores_NV = logits_NV.float() / sampling.temperature
        return (scores_NV + noise.gumbel_of_all(video_N, place_N, logits_NV.shape[1])).argmax(-1)
    kept = keep(logits_NV, sampling)
    best_N = _with_noise(kept, noise, video_N, place_N).argmax(-1)
    return kept.code_NK.gather(-1, best_N[:, None])[:, 0]


def draw_best(
    logits_NV: Tensor,
    sampling: Sampling,
    noise: PlaceNoise,
    video_N: Tensor,
    place_N: Tensor,
    num: int,
) -> Tensor:
    """Return the codes nearest to being drawn at each place, (N, num) int64, the drawn one first.

    Where fewer can be drawn, the drawn one fills the rest. See :func:`draw` for the arguments.
    """
    if sampling.temperature == 0:
        code_NK = logits_NV.topk(min(num, logits_NV.shape[1])).indices
    elif sampling.keeps_all:
        scores_NV = logits_NV.float() / sampling.temperature
        scores_NV = scores_NV + noise.gumbel_of_all(video_N, place_N, logits_NV.shape[1])
        code_NK = scores_NV.topk(min(num, logits_NV.shape[1])).indices
    else:
        kept = keep(logits_NV, sampling)
        scores_NK = _with_noise(kept, noise, video_N, place_N)
        best_NK = scores_NK.topk(min(num, scores_NK.shape[1])).indices
        code_NK = kept.code_NK.gather(1, best_NK)
    missing = num - code_NK.shape[1]
    return torch.cat([code_NK, code_NK[:, :1].expand(-1, missing)], dim=1) if missing else code_NK


def keep(logits_NV: Tensor, sampling: Sampling) -> Kept:
    """Leave the codes that top-k and then top-p keep.

    Where several codes have the score at which top-p ends, all of them are kept, so that the
    result does not depend on how many were looked at.

    Args:
        logits_NV: scores of all codes.
        sampling: how to draw; its temperature is above 0.
    """
    scores_NV = logits_NV.float() / sampling.temperature
    num_codes = scores_NV.shape[1]
    if sampling.top_p >= 1.0:
        return Kept(*scores_NV.topk(min(sampling.top_k or num_codes, num_codes)))
    if sampling.top_k:
        scores_NK, code_NK = scores_NV.topk(min(sampling.top_k, num_codes))
        log_z_N1 = scores_NK.logsumexp(-1, keepdim=True)
        return _nucleus(scores_NK, code_NK, log_z_N1, sampling.top_p)
    first = by_device(FIRST_KEPT, num_codes, logits_NV.device)
    log_z_N1 = scores_NV.logsumexp(-1, keepdim=True)
    return _shortened(_widened(scores_NV, log_z_N1, sampling.top_p, min(first, num_codes)))


def _nucleus(scores_NK: Tensor, code_NK: Tensor, log_z_N1: Tensor, top_p: float) -> Kept:
    """Hide, of the best codes, those that top-p leaves out."""
    share_NK = (scores_NK - log_z_N1).exp()
    is_kept_NK = share_NK.cumsum(-1) - share_NK < top_p
    last_N1 = scores_NK.masked_fill(~is_kept_NK, math.inf).amin(-1, keepdim=True)
    return Kept(scores_NK.masked_fill(scores_NK < last_N1, -math.inf), code_NK)


def _widened(scores_NV: Tensor, log_z_N1: Tensor, top_p: float, num_kept: int) -> Kept:
    """Apply top-p to so many of the best codes, and to more at the places that need more.

    Sorting is a large part of a pass on a CPU, and few places keep many codes.
    """
    kept = _nucleus(*scores_NV.topk(num_kept), log_z_N1, top_p)
    if num_kept == scores_NV.shape[1]:
        return kept
    more_N = kept.scores_NK[:, -1].isfinite()  # codes behind the last may be kept, too
    if not bool(more_N.any()):
        return kept
    row_M = more_N.nonzero()[:, 0]
    wide = _widened(scores_NV[row_M], log_z_N1[row_M], top_p, min(4 * num_kept, scores_NV.shape[1]))
    missing = wide.scores_NK.shape[1] - num_kept
    scores_NK = F.pad(kept.scores_NK, (0, missing), value=-math.inf)
    code_NK = F.pad(kept.code_NK, (0, missing))
    scores_NK[row_M], code_NK[row_M] = wide.scores_NK, wide.code_NK
    return Kept(scores_NK, code_NK)


def _shortened(kept: Kept) -> Kept:
    """Leave out what no place keeps; on a GPU it would wait."""
    if by_device(cpu=False, cuda=True, device=kept.code_NK.device):
        return kept
    most = int(kept.scores_NK.isfinite().sum(-1).max())
    return Kept(kept.scores_NK[:, :most], kept.code_NK[:, :most])


def _with_noise(kept: Kept, noise: PlaceNoise, video_N: Tensor, place_N: Tensor) -> Tensor:
    """Return the scores of the kept codes with their noise, (N, K).

    On a CPU it is drawn for these alone: where one place keeps many codes, others keep few of them.
    """
    if by_device(cpu=False, cuda=True, device=place_N.device):
        return kept.scores_NK + noise.gumbel(video_N, place_N, kept.code_NK)
    row_M, column_M = kept.scores_NK.isfinite().nonzero().unbind(1)
    code_M1 = kept.code_NK[row_M, column_M][:, None]
    gumbel_M = noise.gumbel(video_N[row_M], place_N[row_M], code_M1)[:, 0]
    return kept.scores_NK.index_put((row_M, column_M), gumbel_M, accumulate=True)


TYPICAL_SHARE, TYPICAL_ENTROPY = 0.3, 0.09
"""A guess is typical above the smaller of this share and this multiple of exp(-entropy): the
published thresholds (Medusa, arXiv 2401.10774, section 2.3.1, and its code)."""


def is_typical(logits_NV: Tensor, code_N: Tensor, sampling: Sampling) -> Tensor:
    """Whether a guess is likely enough to be taken without a draw, (N,) bool.

    Taking it changes the distribution: what is typical comes more often than it is likely.

    Args:
        logits_NV: scores of all codes at the guess's place.
        code_N: the guesses.
        sampling: how codes are drawn.
    """
    share_NV = probabilities(logits_NV, sampling)
    entropy_N = -torch.xlogy(share_NV, share_NV).sum(-1)
    least_N = (TYPICAL_ENTROPY * (-entropy_N).exp()).clamp(max=TYPICAL_SHARE)
    return share_NV.gather(-1, code_N[:, None])[:, 0] > least_N


def probabilities(logits_NV: Tensor, sampling: Sampling) -> Tensor:
    """Return the probability that each code is drawn, (N, V)."""
    if sampling.temperature == 0:
        best_N1 = logits_NV.argmax(-1, keepdim=True)
        return torch.zeros_like(logits_NV, dtype=torch.float32).scatter_(-1, best_N1, 1.0)
    scores_NK, code_NK = keep(logits_NV, sampling)
    shares = torch.zeros_like(logits_NV, dtype=torch.float32)
    return shares.scatter_(-1, code_NK, scores_NK.softmax(-1))
