"""Normalisation layers that work under sequence and tensor parallelism."""

from __future__ import annotations

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import nn

from nemo_cosmos.models.common.fused import rms_norm
from nemo_cosmos.platform import kernels


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis, with a learned scale.

    ``y = x / sqrt(mean(x^2) + eps) * weight``. Built by Megatron's layer specs, hence the
    arguments' names.

    Args:
        config: the network's configuration: type of the parameter, and whether ranks share the
            tokens; Megatron then sums the parameter's gradient over the tensor-parallel ranks.
        hidden_size: length of the last axis.
        eps: added to the mean square.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.fused: str = getattr(config, "fused", "auto")
        self.weight = replicated_parameter(torch.Size([hidden_size]), config)
        if config.perform_initialization:
            nn.init.ones_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x`` of shape (..., hidden_size)."""
        normed: torch.Tensor = rms_norm(x, self.weight, self.eps, mode=self.fused)
        return normed


def replicated_parameter(
    shape: torch.Size, config: TransformerConfig, on_share: bool = True
) -> nn.Parameter:
    """Make an uninitialised parameter that every tensor-parallel rank holds in full.

    It is created on the device where the parallel linear layers create theirs.

    Args:
        shape: shape of the parameter.
        config: the network's configuration.
        on_share: whether it acts on this rank's share of the tokens under sequence parallelism. Its
            gradient is then a part of the whole, and the attribute ``sequence_parallel`` makes
            Megatron sum the parts.
    """
    device = None if config.use_cpu_initialization else torch.cuda.current_device()
    parameter = nn.Parameter(torch.empty(shape, dtype=config.params_dtype, device=device))
    parameter.sequence_parallel = config.sequence_parallel and on_share  # type: ignore[attr-defined]
    return parameter


class ReplicatedLinear(nn.Module):
    """A linear map without bias that every tensor-parallel rank holds in full.

    For the small maps around the transformer layers (embeddings, modulation, output), which are
    not worth splitting.

    Args:
        in_features: length of the input's last axis.
        out_features: length of the output's last axis.
        config: the network's configuration; ``config.init_method`` fills the weight.
        on_share: see :func:`replicated_parameter`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        config: TransformerConfig,
        on_share: bool = True,
    ) -> None:
        super().__init__()
        shape = torch.Size([out_features, in_features])
        self.weight = replicated_parameter(shape, config, on_share)
        if config.perform_initialization:
            config.init_method(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``x`` of shape (..., in_features) to (..., out_features)."""
        return kernels.linear(x, self.weight)
