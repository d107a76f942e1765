"""Floating-point operations and tokens of a batch, for the models that count them."""

from __future__ import annotations

from typing import Any

import torch

from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.flops import dit_flops


def flops_and_tokens(module: Any, batch: Any) -> tuple[float, int]:
    """Count one training step of a micro-batch.

    A Lightning module may count itself, with a method ``flops_and_tokens(batch)``; the diffusion
    transformer is counted by ``models.diffusion.flops``.

    Args:
        module: the Lightning module.
        batch: as its ``data_step`` gives it.

    Returns:
        FLOP of forward and backward pass without recomputation, and tokens; zeros for a model that
        nobody counts.
    """
    own = getattr(module, "flops_and_tokens", None)
    if own is not None:
        flop, num_tokens = own(batch)
        return float(flop), int(num_tokens)
    config = getattr(module, "config", None)
    if not isinstance(config, DiTConfig) or "latent" not in batch:
        return 0.0, 0
    latent_BCTHW: torch.Tensor = batch["latent"]
    num_samples, _, frames, rows, columns = latent_BCTHW.shape
    text_BLD = batch["t5_text_embeddings"]
    counted = dit_flops(
        config,
        (frames, rows, columns),
        num_text_tokens=text_BLD.shape[1],
        batch_size=num_samples,
    )
    num_tokens = num_samples * frames * rows * columns // config.patch_volume
    return float(counted.training), num_tokens
