"""Xavier's spread for weights that Megatron-Core and Transformer Engine draw in parts.

Xavier's bound is ``sqrt(6 / (fan_in + fan_out))``. A matrix that is drawn as a tensor-parallel
rank's part, or that fuses several projections, has other fans than the matrix that is meant.
"""

from __future__ import annotations

import math

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import nn


def draws_xavier(config: TransformerConfig) -> bool:
    """Whether the spread of a matrix depends on its fans: other initialisers have one spread."""
    return config.init_method is nn.init.xavier_uniform_


@torch.no_grad()
def spread_parts_as_whole(module: nn.Module, config: TransformerConfig) -> None:
    """Give weights that each rank drew for itself the spread of the whole matrices.

    On CUDA, Megatron-Core and Transformer Engine call the initialiser on a rank's part, whose fans
    are smaller; on a CPU they draw the whole matrix and keep a part. Does nothing where the
    initialiser is not Xavier's, or nothing is split.

    Args:
        module: newly built; its linear maps are Megatron's or Transformer Engine's.
        config: the network's configuration.
    """
    num_ranks = config.tensor_model_parallel_size
    drawn_in_parts = config.perform_initialization and not config.use_cpu_initialization
    if num_ranks == 1 or not drawn_in_parts or not draws_xavier(config):
        return
    for weight in module.parameters():
        if weight.dim() != 2 or not getattr(weight, "tensor_model_parallel", False):
            continue
        drawn = sum(weight.shape)
        whole = drawn + (num_ranks - 1) * weight.shape[weight.partition_dim]  # type: ignore[attr-defined]
        weight.mul_(math.sqrt(drawn / whole))


@torch.no_grad()
def spread_fused_as_single(weight: torch.Tensor, fan_in: int, fan_out: int, num_fused: int) -> None:
    """Give each part of a fused projection the spread that Xavier gives it on its own.

    Args:
        weight: (fan_out, fan_in), or a rank's rows of it, drawn as one matrix.
        fan_in: columns of the whole matrix.
        fan_out: rows of the whole matrix.
        num_fused: how many projections of equal size it holds.
    """
    weight.mul_(math.sqrt((fan_in + fan_out) / (fan_in + fan_out / num_fused)))
