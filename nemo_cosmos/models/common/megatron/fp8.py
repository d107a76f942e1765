"""What FP8 needs, checked before a network is built: Megatron-Core would silently leave it out.

FP8 is computed by Transformer Engine, in the matrix products of the layers alone: embeddings,
modulation and output layer stay in bfloat16, and by default so do the first and the last layer.

Recipes (how numbers are scaled into the eight bits):

- ``"tensorwise"``, current scaling: by each tensor's own largest value; the default;
- ``"delayed"``: by the largest values of earlier steps; cheaper, and in all layers or none;
- ``"blockwise"``: by blocks of 128 values;
- ``"mxfp8"``: by blocks of 32 values, in hardware from Blackwell on.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.platform import compute_capability, require
from nemo_cosmos.platform.hardware import FP8_CAPABILITIES, fp8_problem

if TYPE_CHECKING:
    from megatron.core.transformer.transformer_config import TransformerConfig

SCALE_ROWS = {"blockwise": 128, "mxfp8": 32}
"""Rows that share a scale, by recipe; the others have one scale a tensor."""
ATTENTION_CAPABILITIES: dict[str, tuple[int, int]] = {"delayed": (9, 0), "tensorwise": (10, 0)}
"""The capability that attention in FP8 begins with, by recipe; the other recipes have none."""
ATTENTION_HEAD_SIZE = 128
"""Channels of a head that cuDNN trains in FP8 on Hopper."""


def check_fp8(config: TransformerConfig, layer_spec: str) -> None:
    """Require what the configuration's FP8 (or FP4) needs; nothing without either.

    Args:
        config: the network's configuration.
        layer_spec: ``"local"``, ``"transformer_engine"`` or ``"auto"``.

    Raises:
        MissingDependencyError: Transformer Engine is not installed.
        ConfigError: the recipe is unknown, does not fit the layer spec or the hardware, or cannot
            leave single layers in bfloat16.
    """
    if not (config.fp8 or config.fp4):
        check_fp8_attention(config)
        return
    require("transformer_engine", purpose=f"training in {config.fp8 or config.fp4} precision")
    if layer_spec == "local":
        raise ConfigError(
            f"Precision {config.fp8 or config.fp4} is asked for with layer_spec='local', whose "
            "layers have none. Set layer_spec to 'auto' or 'transformer_engine'."
        )
    if config.fp8:
        _check_recipe(config)
    check_fp8_attention(config)


def check_fp8_attention(config: TransformerConfig) -> None:
    """Refuse attention in FP8 where no kernel of Transformer Engine computes it, or it is ignored.

    Current scaling has one from Blackwell on; on Hopper it is delayed scaling's, of all layers or,
    by Transformer Engine's variable ``NVTE_DPA_FP8_RECIPE=DelayedScaling``, of attention alone.

    Args:
        config: the network's configuration.

    Raises:
        ConfigError: says which setting to change.
    """
    if config.fp8_multi_head_attention:
        raise ConfigError(
            "fp8_multi_head_attention hands queries and keys from the projection to attention in "
            "FP8, but this network normalises and rotates them in between. Leave it off; "
            "fp8_dot_product_attention=true computes attention itself in FP8."
        )
    if not config.fp8_dot_product_attention:
        return
    if not config.fp8:
        raise ConfigError(
            "fp8_dot_product_attention is set without FP8, so nothing would change. Set "
            "trainer.fp8=hybrid, or leave it off."
        )
    recipe = str(config.fp8_recipe)
    if recipe == "tensorwise" and os.environ.get("NVTE_DPA_FP8_RECIPE") == "DelayedScaling":
        recipe = "delayed"
    needed, found = ATTENTION_CAPABILITIES.get(recipe), compute_capability()
    if needed is None or found is None or found < needed or found[0] == 12:
        here = "without a CUDA device"
        if found is not None:
            here = f"on compute capability {found[0]}.{found[1]}"
        raise ConfigError(
            f"fp8_dot_product_attention with the FP8 recipe '{recipe}' has no kernel {here}: "
            "'delayed' has one from 9.0 (Hopper) on, 'tensorwise' from 10.0 (Blackwell) on, 12.0 "
            "and the other recipes have none. Set trainer.fp8_recipe=delayed, or "
            "NVTE_DPA_FP8_RECIPE=DelayedScaling for attention alone, or leave it off."
        )
    channels = config.hidden_size // config.num_attention_heads
    if config.kv_channels is not None:
        channels = config.kv_channels
    fits = channels == ATTENTION_HEAD_SIZE
    if found >= (10, 0):
        fits = channels <= ATTENTION_HEAD_SIZE and channels % 16 == 0
    if not fits:
        raise ConfigError(
            f"fp8_dot_product_attention needs heads of {ATTENTION_HEAD_SIZE} channels, and on "
            f"Blackwell of fewer that are a multiple of 16, but these have {channels}. Leave it "
            "off, or choose another number of heads."
        )


def check_fp8_packs(config: TransformerConfig) -> None:
    """Refuse packed samples with attention in FP8, which takes batches of one length alone.

    Raises:
        ConfigError: both are asked for.
    """
    if config.fp8_dot_product_attention:
        raise ConfigError(
            "Packed samples (data.packing) do not go with fp8_dot_product_attention: its kernels "
            "take samples of one length. Leave one of the two out."
        )


def token_multiple(config: TransformerConfig) -> int:
    """The multiple that a rank's number of tokens must be for FP8 matrix products; 1 without FP8.

    cuBLAS takes multiples of 16 along every axis, and in a weight's gradient tokens are one: those
    of all ranks, which sequence parallelism gathers. Transformer Engine itself asks for 8 rows on a
    rank, and cannot gather rows of which some share a scale with another rank's.

    Args:
        config: the network's configuration.
    """
    if not config.fp8:
        return 1
    recipe = str(config.fp8_recipe)
    gathered = 32 if recipe == "mxfp8" else 16
    if not config.sequence_parallel:
        return gathered
    ranks = config.tensor_model_parallel_size
    own = SCALE_ROWS.get(recipe, 8)
    return math.lcm(own, gathered // math.gcd(gathered, ranks))


def check_fp8_tokens(config: TransformerConfig, num_tokens: int, what: str) -> None:
    """Require a number of tokens on this rank that FP8 matrix products take.

    Args:
        config: the network's configuration.
        num_tokens: number of tokens times number of samples.
        what: the kind of tokens, for the message.

    Raises:
        ConfigError: it is not a multiple of :func:`token_multiple`.
    """
    multiple = token_multiple(config)
    if num_tokens % multiple:
        shared = ""
        if config.sequence_parallel:
            shared = (
                f" with sequence_parallel over {config.tensor_model_parallel_size} "
                "tensor-parallel ranks"
            )
        raise ConfigError(
            f"A rank has {num_tokens} {what}, but FP8 ({config.fp8_recipe}){shared} takes "
            f"multiples of {multiple}. Choose another video size, length or batch, other parallel "
            "sizes, or train without FP8."
        )


def _check_recipe(config: TransformerConfig) -> None:
    recipe = str(config.fp8_recipe)
    if recipe not in FP8_CAPABILITIES:
        raise ConfigError(
            f"There is no FP8 recipe '{recipe}'. Valid are "
            f"{nearest_names(recipe, FP8_CAPABILITIES)}."
        )
    if recipe == "delayed" and config.first_last_layers_bf16:
        raise ConfigError(
            "Delayed scaling collects its scales over all layers and cannot leave the first and "
            "last in bfloat16. Use current scaling (fp8_recipe='tensorwise'), or FP8 in all layers "
            "(bf16_end_layers=0)."
        )
    if config.fp8_param:
        raise ConfigError(
            "fp8_param keeps the weights themselves in FP8, which this network's initialisation "
            "does not support. Leave it off; matrix products are in FP8 without it."
        )
    if problem := fp8_problem(recipe, compute_capability()):
        raise ConfigError(problem)
