"""The layer of the diffusion transformer and the stack of layers, on Megatron-Core.

A layer is self-attention, cross-attention to the text and a feed-forward network, each normalised
and modulated by the noise level and added to the residual through a gate. The stack is Megatron's
``TransformerBlock`` (which layers this pipeline stage holds, sharded checkpoints, recomputation
settings) with the DiT's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec, build_module
from megatron.core.transformer.transformer_layer import (
    BaseTransformerLayer,
    get_transformer_layer_offset,
)
from megatron.core.utils import get_pg_rank

from nemo_cosmos.models.common.attention.core import KeysValues
from nemo_cosmos.models.common.fused import (
    add_gated,
    add_gated_and_modulate,
    modulate,
    place_and_modulate,
)
from nemo_cosmos.models.common.megatron.fp8 import check_fp8_tokens
from nemo_cosmos.models.common.megatron.initialization import spread_parts_as_whole
from nemo_cosmos.models.common.megatron.stack import LayerStack
from nemo_cosmos.models.common.packed import Packing
from nemo_cosmos.models.common.rope import RopeTable
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.layer_inputs import LayerInputs
from nemo_cosmos.models.diffusion.network.modulation import AdaLNLoRA


@dataclass
class DiTLayerSubmodules:
    """The parts of a :class:`DiTLayer` that a layer spec chooses."""

    self_attention: ModuleSpec
    cross_attention: ModuleSpec
    mlp: ModuleSpec


class DiTLayer(MegatronModule, BaseTransformerLayer):
    """Self-attention, cross-attention and feed-forward, each modulated and gated.

    Args:
        config: the network's configuration.
        submodules: the parts that the layer spec names.
        layer_number: number of the layer within this pipeline stage, from 1.
        pg_collection: process groups; Megatron's global ones by default.
        vp_stage: number of the virtual pipeline stage; None without virtual stages.
    """

    def __init__(
        self,
        config: DiTConfig,
        submodules: DiTLayerSubmodules,
        layer_number: int = 1,
        pg_collection: ProcessGroupCollection | None = None,
        vp_stage: int | None = None,
    ) -> None:
        super().__init__(config=config)
        groups = pg_collection or ProcessGroupCollection.use_mpu_process_groups()
        self.tp_group = groups.tp
        self.fused = config.fused
        self.layer_number = layer_number + get_transformer_layer_offset(
            config, vp_stage, get_pg_rank(groups.pp)
        )
        place = {"config": config, "layer_number": self.layer_number, "pg_collection": groups}
        self.adaln_self_attention = AdaLNLoRA(config)
        # Megatron allows another way of context parallelism in every layer.
        cp_comm_type = config.cp_comm_type
        if isinstance(cp_comm_type, list):
            cp_comm_type = cp_comm_type[self.layer_number - 1]
        self.self_attention = build_module(
            submodules.self_attention, cp_comm_type=cp_comm_type, **place
        )
        self.adaln_cross_attention = AdaLNLoRA(config)
        self.cross_attention = build_module(
            submodules.cross_attention, context_size=config.crossattn_emb_channels, **place
        )
        self.adaln_mlp = AdaLNLoRA(config)
        self.mlp = build_module(
            submodules.mlp,
            config=config,
            ffn_hidden_size=config.ffn_hidden_size,
            tp_group=groups.tp,
        )
        spread_parts_as_whole(self, config)

    def forward(
        self,
        x_LBE: torch.Tensor,
        c: LayerInputs,
        keys_values: KeysValues | None = None,
        packing: Packing | None = None,
    ) -> torch.Tensor:
        """Return the tokens after this layer, (L, B, E).

        Args:
            x_LBE: tokens.
            c: what all layers see besides the tokens.
            keys_values: this layer's keys and values of the context, instead of the context.
            packing: where the samples of a packed sequence begin and end.
        """
        token_bounds, context_bounds = (None, None) if packing is None else packing
        shift, scale, gate = self.adaln_self_attention(c.activated_TBE, c.shared_TB3E)
        # The learned position is added before every layer, not once (Cosmos paper, section 5.2).
        if c.position_L1E is None:
            normed = modulate(x_LBE, shift, scale, c.row_L, mode=self.fused)
        else:
            x_LBE, normed = place_and_modulate(
                x_LBE, c.position_L1E, shift, scale, c.row_L, mode=self.fused
            )
        rope = RopeTable(c.rope_cos_LB1D, c.rope_sin_LB1D)
        update = self.self_attention(normed, rope, token_bounds)

        shift, scale, next_gate = self.adaln_cross_attention(c.activated_TBE, c.shared_TB3E)
        x_LBE, normed = add_gated_and_modulate(
            x_LBE, gate, update, shift, scale, c.row_L, mode=self.fused
        )
        gate = next_gate
        update = self.cross_attention(normed, c.context_MBC, keys_values, context_bounds)

        shift, scale, next_gate = self.adaln_mlp(c.activated_TBE, c.shared_TB3E)
        x_LBE, normed = add_gated_and_modulate(
            x_LBE, gate, update, shift, scale, c.row_L, mode=self.fused
        )
        update, _ = self.mlp(normed)
        out: torch.Tensor = add_gated(x_LBE, next_gate, update, c.row_L, mode=self.fused)
        return out

    def project_context(self, context_MBC: torch.Tensor) -> KeysValues:
        """Keys and values of the context for this layer."""
        return self.cross_attention.project_context(context_MBC)


class DiTStack(LayerStack):
    """The layers of this pipeline stage, each a :class:`DiTLayer`."""

    def forward(
        self,
        x_LBE: torch.Tensor | None,
        c: LayerInputs,
        keys_values: Sequence[KeysValues] | None = None,
        packing: Packing | None = None,
    ) -> torch.Tensor:
        """Run the layers; returns (L, B, E).

        Args:
            x_LBE: tokens; ignored on a later pipeline stage, which gets them from the stage before.
            c: what all layers see besides the tokens.
            keys_values: keys and values of the context for each layer, instead of the context.
            packing: where the samples of a packed sequence begin and end.

        Raises:
            ConfigError: a later stage has no tokens, or their number does not suit FP8.
        """
        if c.context_MBC is not None:
            num_context_tokens = c.context_MBC.shape[0] * c.context_MBC.shape[1]
            check_fp8_tokens(self.config, num_context_tokens, "tokens of text")
        each = [{"keys_values": kv} for kv in keys_values] if keys_values else None
        return self.run(x_LBE, c, each, {"packing": packing})

    def project_context(self, context_MBC: torch.Tensor) -> list[KeysValues]:
        """Keys and values of the context for each layer."""
        return [layer.project_context(context_MBC) for layer in self.layers]
