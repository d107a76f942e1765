"""Which networks divide over tensor-parallel, context-parallel and pipeline ranks."""

from __future__ import annotations

from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.attention.context_parallel import check_kind
from nemo_cosmos.platform import divisors


def check_layout(config: TransformerConfig) -> None:
    """Require a network's sizes to divide over ranks.

    Args:
        config: the network's configuration, with the parallel sizes.

    Raises:
        ConfigError: heads or the feed-forward network's width do not divide over tensor-parallel
            ranks, heads not over context-parallel ranks that share them, or layers not over
            pipeline stages; names the sizes that do.
    """
    tp, heads = config.tensor_model_parallel_size, config.num_attention_heads
    if heads % tp:
        raise ConfigError(
            f"num_attention_heads={heads} does not divide over tensor_model_parallel_size={tp} "
            f"ranks. Set it to one of {divisors(heads)}."
        )
    if (config.ffn_hidden_size or 0) % tp:
        raise ConfigError(
            f"ffn_hidden_size={config.ffn_hidden_size} does not divide over "
            f"tensor_model_parallel_size={tp} ranks. Make it a multiple."
        )
    if config.cp_comm_type == "a2a":
        check_kind(config.cp_comm_type, heads // tp, config.context_parallel_size)
    stages = config.pipeline_model_parallel_size
    virtual = config.virtual_pipeline_model_parallel_size or 1
    uneven = (
        config.num_layers_in_first_pipeline_stage,
        config.num_layers_in_last_pipeline_stage,
        config.pipeline_model_parallel_layout,
    )
    if config.num_layers % (stages * virtual) and not any(uneven):
        raise ConfigError(
            f"num_layers={config.num_layers} does not divide over "
            f"pipeline_model_parallel_size={stages} stages of {virtual} virtual ones each. "
            "Choose the two so that their product is one of "
            f"{divisors(config.num_layers)}."
        )
    if virtual > 1 and stages == 1:
        raise ConfigError(
            f"virtual_pipeline_model_parallel_size={virtual} needs a pipeline. Set "
            "pipeline_model_parallel_size to 2 or more, or the virtual size to none."
        )
