"""Layer specs of the autoregressive transformer: the class at each place of a layer.

``local`` uses Megatron's own parallel layers and PyTorch's attention, on any device;
``transformer_engine`` uses NVIDIA's fused layers, with FP8, on its GPUs.
"""

from __future__ import annotations

from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.attention import SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.spec_utils import ModuleSpec

from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.layers import (
    ARLayer,
    ARLayerSubmodules,
    GatedMLP,
    GatedMLPSubmodules,
)
from nemo_cosmos.models.common.attention.context_parallel import ContextParallelAttention
from nemo_cosmos.models.common.attention.core import (
    ContextAttention,
    ContextAttentionSubmodules,
    LocalCoreAttention,
    RopeSelfAttention,
)
from nemo_cosmos.models.common.attention.transformer_engine import transformer_engine_cores
from nemo_cosmos.models.common.megatron.layer_choice import chosen_layer_spec
from nemo_cosmos.models.common.norms import RMSNorm


def ar_layer_spec(config: ARConfig) -> ModuleSpec:
    """Return the spec of one layer of a network.

    Args:
        config: the network's configuration; see
            :func:`~nemo_cosmos.models.common.megatron.layer_choice.chosen_layer_spec`.

    Raises:
        MissingDependencyError: it asks for ``"transformer_engine"``, which is not installed.
    """
    fused = chosen_layer_spec(config) == "transformer_engine"
    return _transformer_engine_spec() if fused else _local_spec()


def _local_spec() -> ModuleSpec:
    return _layer(
        ColumnParallelLinear,
        RowParallelLinear,
        ContextParallelAttention,
        LocalCoreAttention,
        RMSNorm,
    )


def _transformer_engine_spec() -> ModuleSpec:
    cores = transformer_engine_cores()
    from megatron.core.extensions.transformer_engine import (
        TEColumnParallelLinear,
        TENorm,
        TERowParallelLinear,
    )

    return _layer(
        TEColumnParallelLinear,
        TERowParallelLinear,
        cores.self_attention,
        cores.context_attention,
        TENorm,
    )


def _layer(
    column: type, row: type, self_attention: type, context_attention: type, norm: type
) -> ModuleSpec:
    return ModuleSpec(
        module=ARLayer,
        submodules=ARLayerSubmodules(
            norm=norm,
            self_attention=ModuleSpec(
                module=RopeSelfAttention,
                params={"attn_mask_type": AttnMaskType.causal},
                submodules=SelfAttentionSubmodules(
                    linear_qkv=column,
                    core_attention=self_attention,
                    linear_proj=row,
                    q_layernorm=norm,
                    k_layernorm=norm,
                ),
            ),
            cross_attention=ModuleSpec(
                module=ContextAttention,
                params={"attn_mask_type": AttnMaskType.no_mask},
                submodules=ContextAttentionSubmodules(
                    linear_q=column,
                    linear_kv=column,
                    core_attention=context_attention,
                    linear_proj=row,
                    q_layernorm=norm,
                    k_layernorm=norm,
                ),
            ),
            mlp=ModuleSpec(
                module=GatedMLP,
                submodules=GatedMLPSubmodules(linear_fc1=column, linear_fc2=row),
            ),
        ),
    )
