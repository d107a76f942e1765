"""From scores to a code: temperature, top-k, top-p, and the draw.

Shape suffixes: N places, V codes, K kept codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.platform import by_device

FIRST_KEPT = 256
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
    scores_NK, code_NK = keep(logits_NV, sampling)
    best_N = (scores_NK + noise.gumbel(video_N, place_N, code_NK)).argmax(-1)
    return code_NK.gather(-1, best_N[:, None])[:, 0]


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
        scores_NK, code_NK = keep(logits_NV, sampling)
        scores_NK = scores_NK + noise.gumbel(video_N, place_N, code_NK)
        best_NK = scores_NK.topk(min(num, scores_NK.shape[1])).indices
        code_NK = code_NK.gather(1, best_NK)
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
    first = by_device(FIRST_KEPT, num_codes, logits_NV.device)
    num_kept = min(sampling.top_k or (num_codes if sampling.keeps_all else first), num_codes)
    log_z_N1 = None if sampling.top_k else scores_NV.logsumexp(-1, keepdim=True)
    while True:
        scores_NK, code_NK = scores_NV.topk(num_kept)
        if sampling.top_p >= 1.0:
            return Kept(scores_NK, code_NK)
        whole_N1 = scores_NK.logsumexp(-1, keepdim=True) if log_z_N1 is None else log_z_N1
        share_NK = (scores_NK - whole_N1).exp()
        is_kept_NK = share_NK.cumsum(-1) - share_NK < sampling.top_p
        last_N1 = scores_NK.masked_fill(~is_kept_NK, math.inf).amin(-1, keepdim=True)
        is_kept_NK = scores_NK >= last_N1
        is_all = num_kept == num_codes or bool(sampling.top_k)
        if is_all or not bool(is_kept_NK[:, -1].any()):
            scores_NK = scores_NK.masked_fill(~is_kept_NK, -math.inf)
            return _shortened(Kept(scores_NK, code_NK), is_kept_NK)
        num_kept = min(4 * num_kept, num_codes)


def _shortened(kept: Kept, is_kept_NK: Tensor) -> Kept:
    """Leave out what no place keeps, so that no noise is drawn for it; on a GPU it would wait."""
    if by_device(cpu=False, cuda=True, device=is_kept_NK.device):
        return kept
    most = int(is_kept_NK.sum(-1).max())
    return Kept(kept.scores_NK[:, :most], kept.code_NK[:, :most])


def probabilities(logits_NV: Tensor, sampling: Sampling) -> Tensor:
    """Return the probability that each code is drawn, (N, V)."""
    if sampling.temperature == 0:
        best_N1 = logits_NV.argmax(-1, keepdim=True)
        return torch.zeros_like(logits_NV, dtype=torch.float32).scatter_(-1, best_N1, 1.0)
    scores_NK, code_NK = keep(logits_NV, sampling)
    shares = torch.zeros_like(logits_NV, dtype=torch.float32)
    return shares.scatter_(-1, code_NK, scores_NK.softmax(-1))
