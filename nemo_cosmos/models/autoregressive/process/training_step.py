"""From codes to the loss of the next code.

Shape suffixes: B videos, L tokens (a context-parallel rank's), P codes of a video, V codes of the
codebook (a tensor-parallel rank's), T latent frames, H W latent rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel.mappings import reduce_from_tensor_model_parallel_region
from torch import Tensor

from nemo_cosmos.errors import SampleError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.common.attention.context_parallel import to_zigzag

_HIDDEN = -1e30
"""A score that no softmax sees; minus infinity would make NaN of a rank with nothing else."""


@dataclass(frozen=True)
class Targets:
    """Tokens of a step, the code that follows each, and which of these are learnt.

    Attributes:
        tokens_BL: what the network sees.
        index_L: number of each token, from 0.
        code_LB: the code that follows each token.
        is_code_L: whether one follows.
        is_learnt_L: whether it counts in the cross-entropy: given frames do not.
        num_codes: codes that follow tokens of the whole video.
        num_learnt: codes of the whole video that count.
    """

    tokens_BL: Tensor
    index_L: Tensor
    code_LB: Tensor
    is_code_L: Tensor
    is_learnt_L: Tensor
    num_codes: int
    num_learnt: int


def check_codes(codes_BTHW: Tensor, config: ARConfig) -> None:
    """Require a batch of codes of the model's codebook.

    Raises:
        SampleError: it is none.
    """
    if codes_BTHW.is_floating_point() or codes_BTHW.dim() != 4 or not codes_BTHW.numel():
        raise SampleError(
            f"A batch holds codes of shape {tuple(codes_BTHW.shape)} and type {codes_BTHW.dtype}; "
            "expected whole numbers (batch, frames, rows, columns). Tokenize with a discrete "
            "tokenizer."
        )
    low, high = int(codes_BTHW.min()), int(codes_BTHW.max())
    if low < 0 or high >= config.vocab_size:
        raise SampleError(
            f"A batch holds codes from {low} to {high}, but the model's codebook has 0 to "
            f"{config.vocab_size - 1}. Train with the tokenizer's vocab_size, or tokenize with the "
            "tokenizer of the model."
        )


def make_targets(
    codes_BTHW: Tensor, config: ARConfig, process: ARProcess, cp_group: dist.ProcessGroup | None
) -> Targets:
    """Shift the codes by one token.

    Args:
        codes_BTHW: codes of a batch of videos of one size.
        config: the network's configuration.
        process: which frames are given.
        cp_group: ranks that share the tokens; None without any.
    """
    _, frames, rows, columns = codes_BTHW.shape
    codes_BP = codes_BTHW.flatten(1)
    num = codes_BP.shape[1]
    index_L = torch.arange(num, device=codes_BTHW.device)
    if config.begin_token:
        begin_B1 = torch.full_like(codes_BP[:, :1], config.begin_id)
        tokens_BP, code_BP = torch.cat([begin_B1, codes_BP[:, :-1]], dim=1), codes_BP
        place_L = index_L
    else:  # nothing follows the last code
        tokens_BP, code_BP = codes_BP, codes_BP.roll(-1, dims=1)
        place_L = index_L + 1
    given = min(process.condition_latents, frames - 1) * rows * columns
    is_code_L = place_L < num
    is_learnt_L = is_code_L & (place_L >= given)
    num_codes = num if config.begin_token else num - 1
    num_learnt = num - max(given, 0 if config.begin_token else 1)
    parts = (tokens_BP.t(), index_L, code_BP.t(), is_code_L, is_learnt_L)
    if cp_group is not None and cp_group.size() > 1:
        parts = tuple(to_zigzag(part, cp_group) for part in parts)  # type: ignore[assignment]
    tokens_LB, index_L, code_LB, is_code_L, is_learnt_L = parts
    return Targets(
        tokens_LB.t().contiguous(), index_L, code_LB, is_code_L, is_learnt_L, num_codes, num_learnt
    )


def next_code_loss(
    logits_LBV: Tensor,
    targets: Targets | Sequence[Targets],
    z_loss: float,
    vocab_size: int,
    tp_group: dist.ProcessGroup,
) -> Tensor:
    """Return loss_B: the mean cross-entropy of the learnt codes, and the z-loss of all.

    Under context parallelism it is this rank's part of the loss; the parts are added.

    Args:
        logits_LBV: scores of this rank's codes; of a pack, its videos end to end, and perhaps
            tokens behind them that belong to none.
        targets: what follows each token; of a pack, those of each video.
        z_loss: weight of the z-loss.
        vocab_size: codes; what pads them is not scored.
        tp_group: ranks that share the codes.
    """
    videos = [targets] if isinstance(targets, Targets) else targets
    lengths = [len(video.code_LB) for video in videos]
    code_LB = torch.cat([video.code_LB for video in videos])
    logits_LBV = logits_LBV[: sum(lengths)]
    log_z_LB, score_LB = log_z_and_score(logits_LBV, code_LB, vocab_size, tp_group)
    parts = zip(videos, log_z_LB.split(lengths), score_LB.split(lengths), strict=True)
    return torch.cat([_mean_loss(*part, z_loss) for part in parts])


def _mean_loss(targets: Targets, log_z_LB: Tensor, score_LB: Tensor, z_loss: float) -> Tensor:
    entropy_LB = (log_z_LB - score_LB) * targets.is_learnt_L[:, None]
    squared_LB = log_z_LB.square() * targets.is_code_L[:, None]
    z_B = squared_LB.sum(0) / max(targets.num_codes, 1)
    return entropy_LB.sum(0) / max(targets.num_learnt, 1) + z_loss * z_B


def log_z_and_score(
    logits_LBV: Tensor, code_LB: Tensor, vocab_size: int, tp_group: dist.ProcessGroup
) -> tuple[Tensor, Tensor]:
    """Return the softmax's log-normaliser and the score of a code, of scores that ranks share.

    Args:
        logits_LBV: scores of this rank's codes.
        code_LB: the code in question.
        vocab_size: codes; what pads them is left out.
        tp_group: ranks that share the codes.
    """
    logits_LBV = logits_LBV.float()
    num_own = logits_LBV.shape[-1]
    first = tp_group.rank() * num_own
    num_valid = min(max(vocab_size - first, 0), num_own)
    if num_valid < num_own:
        is_padding_V = torch.arange(num_own, device=logits_LBV.device) >= num_valid
        logits_LBV = logits_LBV.masked_fill(is_padding_V, _HIDDEN)
    peak_LB = logits_LBV.detach().amax(-1)
    if tp_group.size() > 1:
        dist.all_reduce(peak_LB, op=dist.ReduceOp.MAX, group=tp_group)
    sum_LB = (logits_LBV - peak_LB[..., None]).exp().sum(-1)
    own_LB = code_LB - first
    is_own_LB = (own_LB >= 0) & (own_LB < num_own)
    own_LB1 = own_LB.clamp(0, num_own - 1)[..., None]
    score_LB = logits_LBV.gather(-1, own_LB1)[..., 0] * is_own_LB
    # Each rank's gradient is that of its own codes: the sum passes it on unchanged.
    both = torch.stack([sum_LB, score_LB])
    if tp_group.size() > 1:
        both = reduce_from_tensor_model_parallel_region(both, group=tp_group)
    return both[0].log() + peak_LB, both[1]


def num_tokens(codes_BTHW: Tensor) -> int:
    """Return the tokens of one video of a batch."""
    return math.prod(codes_BTHW.shape[1:])
