"""Tensor-parallel communication beside matrix products: whether a training can have it.

Transformer Engine cuts a product and its exchange into pieces that take turns, in buffers of the
shape of the tokens, which are allocated once. So all batches must have one shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.layer_choice import chosen_layer_spec
from nemo_cosmos.models.diffusion.network.config import DiTConfig

OPTION = "model.config.tp_comm_overlap"


def buffer_tokens(config: DiTConfig, grids: Sequence[Sequence[int]], packed: bool) -> int | None:
    """Return the tokens of a sample on the ranks that share its layers; None without overlap.

    Args:
        config: the network's configuration, with layout and precision.
        grids: token grids (time, height, width) of all latents.
        packed: whether batches are packs.

    Raises:
        ConfigError: the layout, the layers or the data do not go with overlap.
    """
    if not config.tp_comm_overlap:
        return None
    if config.tensor_model_parallel_size < 2 or not config.sequence_parallel:
        raise ConfigError(
            f"{OPTION} overlaps what sequence-parallel ranks exchange, of which there are none. "
            "Set trainer.strategy.tensor_model_parallel_size to 2 or more and "
            "trainer.strategy.sequence_parallel=true, or leave it out."
        )
    if chosen_layer_spec(config) == "local":
        raise ConfigError(
            f"{OPTION} is done by Transformer Engine's layers, and these are the local ones. Train "
            "on a GPU with Transformer Engine and trainer.precision=bf16-mixed, or leave it out."
        )
    lengths = sorted({math.prod(grid) for grid in grids})
    if packed or len(lengths) != 1:
        sizes = f"latents of {', '.join(map(str, lengths)) or 'no known number of'} tokens"
        found = "packs" if packed else sizes
        raise ConfigError(
            f"{OPTION} has buffers of one shape, but the data are {found}. Train on videos of one "
            "size without data.packing (data.image_ratio=0 leaves images out), or leave it out."
        )
    return lengths[0] // config.context_parallel_size
