"""Which library's layers a network is made of: Megatron's own, or Transformer Engine's."""

from __future__ import annotations

from typing import Protocol

import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import has, has_cuda


class LayerChoice(Protocol):
    """What a network's configuration says about its layers and their precision."""

    layer_spec: str
    bf16: bool
    fp16: bool
    params_dtype: torch.dtype
    gradient_accumulation_fusion: bool


def chosen_layer_spec(config: LayerChoice) -> str:
    """Return ``"local"`` or ``"transformer_engine"``, whichever a network's layers will be.

    ``config.layer_spec="auto"`` is Transformer Engine where it is installed, CUDA is available and
    the layers compute in 16 bits: in float32 it would lay out the scores of all tokens with all
    tokens.

    Args:
        config: the network's configuration.
    """
    if config.layer_spec != "auto":
        return config.layer_spec
    usable = computes_in_16_bits(config) and has_cuda() and has("transformer_engine")
    return "transformer_engine" if usable else "local"


def computes_in_16_bits(config: LayerChoice) -> bool:
    """Whether the layers do; a trainer keeps float32 parameters until it wraps the network."""
    return config.bf16 or config.fp16 or config.params_dtype != torch.float32


def check_fused_gradients(config: LayerChoice, sharded: bool) -> None:
    """Require kernels that add a weight's gradient inside the product which computes it.

    Args:
        config: the network's configuration.
        sharded: whether Megatron-FSDP shards weights.

    Raises:
        ConfigError: the layers have none, or FSDP keeps gradients elsewhere.
    """
    option = "model.config.gradient_accumulation_fusion"
    if not config.gradient_accumulation_fusion:
        return
    if sharded:
        raise ConfigError(
            f"{option} adds gradients to buffers that trainer.strategy.fsdp=megatron does not "
            "have. Leave one of the two out."
        )
    if chosen_layer_spec(config) == "local" and not (has_cuda() and has("apex")):
        raise ConfigError(
            f"{option} needs the kernels of Transformer Engine or, with local layers, of Apex, on "
            "a GPU. Train there with trainer.precision=bf16-mixed and Transformer Engine, or leave "
            "it out."
        )
