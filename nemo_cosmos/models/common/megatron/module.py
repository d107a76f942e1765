"""What every Lightning module under NeMo's MegatronStrategy needs, whatever it trains."""

from __future__ import annotations

import lightning.pytorch as pl
from torch import nn


def bare_network(module: nn.Module) -> nn.Module:
    """Return the network without the wrappers of Lightning, precision and data parallelism.

    All of them keep what they wrap under the name ``module``.
    """
    while isinstance(inner := getattr(module, "module", None), nn.Module):
        module = inner
    return module


def bare_networks(trainer: pl.Trainer) -> list[nn.Module]:
    """Return this rank's networks: one, or one for each of its virtual pipeline stages."""
    return [bare_network(chunk) for chunk in trainer.strategy.megatron_parallel]
