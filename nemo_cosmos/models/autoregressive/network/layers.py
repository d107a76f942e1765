"""The layer of the autoregressive transformer and the stack of layers, on Megatron-Core.

A layer is causal self-attention, in models with text cross-attention to it, and a gated
feed-forward network, each on the normalised tokens and added to them.

Shape suffixes: L tokens, B batch, E model width, F feed-forward width, D half of a head's channels,
M text tokens, C channels of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec, build_module
from megatron.core.transformer.transformer_layer import (
    BaseTransformerLayer,
    get_transformer_layer_offset,
)
from megatron.core.utils import get_pg_rank
from torch import Tensor
from torch.nn import functional as F

from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.common.attention.cache import KeyValueCache, LayerCache
from nemo_cosmos.models.common.attention.core import KeysValues
from nemo_cosmos.models.common.attention.masks import Mask
from nemo_cosmos.models.common.megatron.fp8 import check_fp8_tokens
from nemo_cosmos.models.common.megatron.stack import LayerStack
from nemo_cosmos.models.common.packed import Packing
from nemo_cosmos.models.common.rope import RopeTable


class ARLayerInputs(NamedTuple):
    """The inputs that all layers share; tensors only, so that recomputation can save them.

    Attributes:
        rope_cos_LB1D: cosines of the rotary embedding's angles.
        rope_sin_LB1D: sines of the same angles.
        position_LBE: absolute positions; None without.
        context_MBC: the text and what controls give; None without, or where the layers get its
            keys and values instead.
    """

    rope_cos_LB1D: Tensor
    rope_sin_LB1D: Tensor
    position_LBE: Tensor | None = None
    context_MBC: Tensor | None = None


@dataclass
class ARLayerSubmodules:
    """The parts of an :class:`ARLayer` that a layer spec chooses."""

    norm: type
    self_attention: ModuleSpec
    cross_attention: ModuleSpec
    mlp: ModuleSpec


@dataclass
class GatedMLPSubmodules:
    """The parts of a :class:`GatedMLP` that a layer spec chooses."""

    linear_fc1: type
    linear_fc2: type


class GatedMLP(MegatronModule):
    """SwiGLU: ``fc2(silu(gate) * up)``.

    The rows of ``linear_fc1`` are gate 0, up 0, gate 1, up 1, and so on. One product makes both,
    and tensor-parallel ranks that split the rows hold whole pairs, however many they are; with all
    gates before all ups, a rank's rows would depend on the number of ranks.

    Args:
        config: the network's configuration.
        submodules: the parts that the layer spec names.
        tp_group: the tensor-parallel ranks.
    """

    def __init__(
        self,
        config: ARConfig,
        submodules: GatedMLPSubmodules,
        tp_group: torch.distributed.ProcessGroup,
    ) -> None:
        super().__init__(config=config)
        linear = {
            "config": config,
            "bias": False,
            "skip_bias_add": False,
            "is_expert": False,
            "tp_group": tp_group,
        }
        self.linear_fc1 = build_module(
            submodules.linear_fc1,
            config.hidden_size,
            2 * config.ffn_hidden_size,
            init_method=config.init_method,
            gather_output=False,
            tp_comm_buffer_name="fc1",
            **linear,
        )
        self.linear_fc2 = build_module(
            submodules.linear_fc2,
            config.ffn_hidden_size,
            config.hidden_size,
            init_method=config.output_layer_init_method,
            input_is_parallel=True,
            tp_comm_buffer_name="fc2",
            **linear,
        )

    def forward(self, x_LBE: Tensor) -> Tensor:
        """Return (L, B, E)."""
        pairs, _ = self.linear_fc1(x_LBE)
        gate_LBF, up_LBF = pairs.unflatten(-1, (-1, 2)).unbind(-1)
        if not torch.is_grad_enabled():
            # Of numbers with gaps between them, torch computes exponentials one by one. Training
            # would keep the copy.
            gate_LBF = gate_LBF.contiguous()
        out: Tensor
        out, _ = self.linear_fc2(F.silu(gate_LBF) * up_LBF)
        return out


class ARLayer(MegatronModule, BaseTransformerLayer):
    """Self-attention, cross-attention where the model has a text or a control, and feed-forward.

    Args:
        config: the network's configuration.
        submodules: the parts that the layer spec names.
        layer_number: number of the layer within this pipeline stage, from 1.
        pg_collection: process groups; Megatron's global ones by default.
        vp_stage: number of the virtual pipeline stage; None without virtual stages.
    """

    def __init__(
        self,
        config: ARConfig,
        submodules: ARLayerSubmodules,
        layer_number: int = 1,
        pg_collection: ProcessGroupCollection | None = None,
        vp_stage: int | None = None,
    ) -> None:
        super().__init__(config=config)
        groups = pg_collection or ProcessGroupCollection.use_mpu_process_groups()
        self.tp_group = groups.tp
        self.layer_number = layer_number + get_transformer_layer_offset(
            config, vp_stage, get_pg_rank(groups.pp)
        )
        place = {"config": config, "layer_number": self.layer_number, "pg_collection": groups}
        norm = {
            "config": config,
            "hidden_size": config.hidden_size,
            "eps": config.layernorm_epsilon,
        }
        # Megatron allows another way of context parallelism in every layer.
        cp_comm_type = config.cp_comm_type
        if isinstance(cp_comm_type, list):
            cp_comm_type = cp_comm_type[self.layer_number - 1]
        self.self_attention_norm = build_module(submodules.norm, **norm)
        self.self_attention = build_module(
            submodules.self_attention, cp_comm_type=cp_comm_type, **place
        )
        self.cross_attention_norm = self.cross_attention = None
        if config.cross_channels:
            self.cross_attention_norm = build_module(submodules.norm, **norm)
            self.cross_attention = build_module(
                submodules.cross_attention, context_size=config.cross_channels, **place
            )
        self.mlp_norm = build_module(submodules.norm, **norm)
        self.mlp = build_module(submodules.mlp, config=config, tp_group=groups.tp)

    def forward(
        self,
        x_LBE: Tensor,
        c: ARLayerInputs,
        keys_values: KeysValues | None = None,
        cache: LayerCache | None = None,
        mask: Mask | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Return the tokens after this layer, (L, B, E).

        Args:
            x_LBE: tokens.
            c: what all layers see besides the tokens.
            keys_values: this layer's keys and values of the text, instead of the text.
            cache: keys and values of the tokens before these.
            mask: which tokens a token sees; those before it by default.
            packing: where the videos of a packed sequence begin and end.
        """
        token_bounds, context_bounds = (None, None) if packing is None else packing
        if c.position_LBE is not None:
            x_LBE = x_LBE + c.position_LBE
        rope = RopeTable(c.rope_cos_LB1D, c.rope_sin_LB1D)
        normed = self.self_attention_norm(x_LBE)
        x_LBE = x_LBE + self.self_attention(normed, rope, token_bounds, mask=mask, cache=cache)
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            normed = self.cross_attention_norm(x_LBE)
            x_LBE = x_LBE + self.cross_attention(normed, c.context_MBC, keys_values, context_bounds)
        out: Tensor = x_LBE + self.mlp(self.mlp_norm(x_LBE))
        return out


class ARStack(LayerStack):
    """The layers of this pipeline stage, each an :class:`ARLayer`."""

    def forward(
        self,
        x_LBE: Tensor | None,
        c: ARLayerInputs,
        keys_values: Sequence[KeysValues] | None = None,
        cache: KeyValueCache | None = None,
        mask: Mask | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Run the layers; returns (L, B, E).

        Args:
            x_LBE: tokens; ignored on a later pipeline stage, which gets them from the stage before.
            c: what all layers see besides the tokens.
            keys_values: keys and values of the text for each layer, instead of the text.
            cache: keys and values of the tokens before these, which are appended; the caller
                advances it.
            mask: which tokens a token sees; those before it by default.
            packing: where the videos of a packed sequence begin and end.

        Raises:
            ConfigError: a later stage has no tokens, or their number does not suit FP8.
        """
        if c.context_MBC is not None:
            num_context_tokens = c.context_MBC.shape[0] * c.context_MBC.shape[1]
            check_fp8_tokens(self.config, num_context_tokens, "tokens of text")
        each: list[dict[str, object]] | None = None
        if keys_values is not None or cache is not None:
            each = [
                {
                    "keys_values": None if keys_values is None else keys_values[index],
                    "cache": None if cache is None else cache.layer(index),
                }
                for index in range(len(self.layers))
            ]
        return self.run(x_LBE, c, each, {"mask": mask, "packing": packing})

    def project_context(self, context_MBC: Tensor) -> list[KeysValues]:
        """Keys and values of the text for each layer."""
        return [layer.cross_attention.project_context(context_MBC) for layer in self.layers]
