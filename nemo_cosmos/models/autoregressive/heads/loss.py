"""The loss of heads that score codes further ahead.

Shape suffixes: L tokens, B videos, E model width, V codes (a tensor-parallel rank's).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.autoregressive.process.training_step import Targets, log_z_and_score

HEAD_DECAY = 0.8
"""A head weighs so much less than the one before it: its guesses are reached less often."""


def heads_loss(net: ARNetwork, heads: Heads, x_LBE: Tensor, targets: Targets) -> Tensor:
    """Return loss_B: the mean cross-entropy over heads, each of its own learnt codes.

    Args:
        net: the network, whose output layer the heads share.
        heads: the heads.
        x_LBE: what the network's last layer gave.
        targets: what follows each token; all tokens are on this rank, in their order.
    """
    h_LBE = net.norm(x_LBE)
    total_B = torch.zeros(x_LBE.shape[1], device=x_LBE.device)
    weights = [HEAD_DECAY**head for head in range(heads.num_heads)]
    for head, weight in enumerate(weights):
        ahead = head + 1
        is_learnt_L = targets.is_learnt_L[ahead:]
        if not bool(is_learnt_L.any()):
            continue  # the video ends before the codes that this head scores
        # The scores of all codes are by far the largest tensor; they are computed again instead of
        # being kept for every head.
        entropy_LB = checkpoint(
            _entropy, net, heads, h_LBE[:-ahead], targets.code_LB[ahead:], head,
            use_reentrant=False,
        )  # fmt: skip
        mean_B = (entropy_LB * is_learnt_L[:, None]).sum(0) / is_learnt_L.sum()
        total_B = total_B + weight * mean_B
    return total_B / sum(weights)


def _entropy(net: ARNetwork, heads: Heads, h_LBE: Tensor, code_LB: Tensor, head: int) -> Tensor:
    """Cross-entropy of one head's codes, (L, B)."""
    logits_LBV, _ = net.output(heads.one(h_LBE, head))
    log_z_LB, score_LB = log_z_and_score(logits_LBV, code_LB, net.config.vocab_size, net.tp_group)
    return log_z_LB - score_LB
