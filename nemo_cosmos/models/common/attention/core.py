"""Attention modules on Megatron-Core, for every model family.

The projections, their split over heads and their checkpoint layout are Megatron's. Ours are queries
and keys normalised per head, a 3-D rotary embedding with precomputed tables, masks by description,
a cache of keys and values for decoding, and cross-attention to a context of another width whose
keys and values can be kept between calls.

Shape suffixes: L tokens, M context tokens or keys, B batch, H heads on this rank, G groups of heads
that share keys and values, D head dimension, E model width, C channels of the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from megatron.core import tensor_parallel
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.attention import Attention, SelfAttention
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec, build_module
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.attention.cache import LayerCache
from nemo_cosmos.models.common.attention.masks import Mask, key_ranges, mask_of
from nemo_cosmos.models.common.megatron.initialization import draws_xavier, spread_fused_as_single
from nemo_cosmos.models.common.packed import Boundaries
from nemo_cosmos.models.common.rope import RopeTable, apply_rope
from nemo_cosmos.platform import kernels

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of a context, each (M, B, H, D)."""


class LocalCoreAttention(MegatronModule):
    """Softmax attention over the tokens of this rank, on any device.

    The ``core_attention`` of a local layer spec: the platform's attention under a mask of
    :mod:`~nemo_cosmos.models.common.attention.masks`. Self-attention over context-parallel ranks
    has one of its own, which the layer spec names.

    Args:
        config: dropout of the weights.
        layer_number: unused; Megatron's interface.
        attn_mask_type: the mask where a call gives none: no mask, or causal.
        attention_type: unused; Megatron's interface.
        cp_comm_type: unused here.
        softmax_scale: factor of the scores; ``D ** -0.5`` by default.
        pg_collection: unused here.

    Raises:
        ConfigError: the layer spec asks for another kind of mask.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        cp_comm_type: str | None = None,
        softmax_scale: float | None = None,
        pg_collection: ProcessGroupCollection | None = None,
    ) -> None:
        del layer_number, attention_type, cp_comm_type, pg_collection
        super().__init__(config)
        self.mask = mask_of(attn_mask_type)
        self.softmax_scale = softmax_scale
        self.dropout = config.attention_dropout

    def forward(
        self,
        q_LBHD: torch.Tensor,
        k_MBGD: torch.Tensor,
        v_MBGD: torch.Tensor,
        *,
        mask: Mask | None = None,
        offsets: Sequence[int] = (0,),
        packed_seq_params: Boundaries | None = None,
    ) -> torch.Tensor:
        """Attend; returns (L, B, H * D).

        Args:
            q_LBHD: queries.
            k_MBGD: keys, of H heads or of groups of heads.
            v_MBGD: values.
            mask: which keys a query sees; the layer spec's by default.
            offsets: position of the first query, for all samples or for each; that of the first key
                is 0.
            packed_seq_params: boundaries of packed samples. Queries, keys and values then have no
                batch axis (Megatron's "thd") and attend within their samples; returns (L, H * D).
        """
        mask = mask or self.mask
        if packed_seq_params is None:
            return self._attend(q_LBHD, k_MBGD, v_MBGD, mask, offsets)
        samples = zip(
            q_LBHD[:, None].split(packed_seq_params.lengths_q),
            k_MBGD[:, None].split(packed_seq_params.lengths_kv),
            v_MBGD[:, None].split(packed_seq_params.lengths_kv),
            strict=True,
        )
        return torch.cat([self._attend(*sample, mask, (0,)) for sample in samples]).squeeze(1)

    def _attend(
        self,
        q_LBHD: torch.Tensor,
        k_MBGD: torch.Tensor,
        v_MBGD: torch.Tensor,
        mask: Mask,
        offsets: Sequence[int],
    ) -> torch.Tensor:
        out_LBHD = kernels.attention(
            q_LBHD,
            k_MBGD,
            v_MBGD,
            scale=self.softmax_scale,
            dropout=self.dropout if self.training else 0.0,
            key_ranges=key_ranges(mask, len(q_LBHD), len(k_MBGD), offsets, q_LBHD.device),
        )
        return out_LBHD.flatten(2)


class RopeSelfAttention(SelfAttention):
    """Megatron's self-attention with a rotary embedding from a precomputed table.

    Megatron's own forward recomputes cosines and sines in every layer for queries and keys; the
    table is the same in all layers.
    """

    def __init__(self, config: TransformerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if config.perform_initialization and draws_xavier(config):
            spread_fused_as_single(
                self.linear_qkv.weight, config.hidden_size, self.linear_qkv_out_dim, num_fused=3
            )

    def forward(
        self,
        x_LBE: torch.Tensor,
        rope: RopeTable,
        boundaries: Boundaries | None = None,
        *,
        mask: Mask | None = None,
        cache: LayerCache | None = None,
    ) -> torch.Tensor:
        """Attend to the tokens themselves; returns (L, B, E).

        Args:
            x_LBE: tokens.
            rope: angles of these tokens, which is where their positions come in.
            boundaries: where packed samples begin and end, each of which attends to itself.
            mask: which tokens a token sees; the layer spec's mask by default.
            cache: keys and values of the tokens before these, which are appended. The caller
                advances the cache after all layers.
        """
        q_LBHD, k_LBGD, v_LBGD = self.get_query_key_value_tensors(x_LBE)
        mode = getattr(self.config, "fused", "auto")
        q_LBHD, k_LBGD = apply_rope(q_LBHD, rope, mode), apply_rope(k_LBGD, rope, mode)
        offsets: Sequence[int] = (0,)
        if cache is not None:
            offsets = cache.offsets
            k_LBGD, v_LBGD = cache.append(k_LBGD, v_LBGD)
        return _attend_and_project(self, q_LBHD, k_LBGD, v_LBGD, boundaries, mask, offsets)


@dataclass
class ContextAttentionSubmodules:
    """The parts of :class:`ContextAttention`; see Megatron's ``CrossAttentionSubmodules``."""

    linear_q: ModuleSpec | type
    linear_kv: ModuleSpec | type
    core_attention: ModuleSpec | type
    linear_proj: ModuleSpec | type
    q_layernorm: ModuleSpec | type
    k_layernorm: ModuleSpec | type


class ContextAttention(Attention):
    """Cross-attention to a context of its own width, with queries and keys normalised per head.

    Args:
        config: the network's configuration.
        submodules: the parts that the layer spec names.
        layer_number: number of the layer in the whole model, from 1.
        context_size: width of the context.
        attn_mask_type: the core attention's mask, as Megatron names it.
        pg_collection: process groups; Megatron's global ones by default.
    """

    def __init__(
        self,
        config: TransformerConfig,
        submodules: ContextAttentionSubmodules,
        layer_number: int,
        context_size: int,
        attn_mask_type: AttnMaskType = AttnMaskType.no_mask,
        pg_collection: ProcessGroupCollection | None = None,
    ) -> None:
        super().__init__(
            config=config,
            submodules=submodules,
            layer_number=layer_number,
            attn_mask_type=attn_mask_type,
            attention_type="cross",
            pg_collection=pg_collection,
        )
        linear = {
            "init_method": config.init_method,
            "gather_output": False,
            "bias": config.add_bias_linear,
            "skip_bias_add": False,
            "is_expert": False,
            "tp_group": self.pg_collection.tp,
        }
        self.linear_q = build_module(
            submodules.linear_q,
            config.hidden_size,
            self.query_projection_size,
            config=config,
            tp_comm_buffer_name="qkv",  # its input has the shape of linear_qkv's
            **linear,
        )
        self.linear_kv = build_module(
            submodules.linear_kv,
            context_size,
            2 * self.kv_projection_size,
            config=without_overlap(config),
            **linear,
        )
        if config.perform_initialization and draws_xavier(config):
            spread_fused_as_single(
                self.linear_kv.weight, context_size, 2 * self.kv_projection_size, num_fused=2
            )
        norm = {
            "config": config,
            "hidden_size": self.hidden_size_per_attention_head,
            "eps": config.layernorm_epsilon,
        }
        self.q_layernorm = build_module(submodules.q_layernorm, **norm)
        self.k_layernorm = build_module(submodules.k_layernorm, **norm)

    def project_context(self, context_MBC: torch.Tensor) -> KeysValues:
        """Compute the context's keys (normalised) and values.

        They depend on the context alone, so that a sampler computes them once for all its steps.
        """
        kv, _ = self.linear_kv(context_MBC)
        kv = kv.unflatten(-1, (-1, 2 * self.hidden_size_per_attention_head))
        k_MBHD, v_MBHD = kv.chunk(2, dim=-1)
        return self.k_layernorm(k_MBHD), v_MBHD

    def get_query_key_value_tensors(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None,
        output_gate: bool = False,
        split_qkv: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries of the tokens, keys and values of the context (Megatron's interface)."""
        del output_gate, split_qkv
        if key_value_states is None:
            raise ConfigError("Cross-attention needs a context, but was given none.")
        keys, values = self.project_context(key_value_states)
        return self._queries(hidden_states), keys, values

    def forward(
        self,
        x_LBE: torch.Tensor,
        context_MBC: torch.Tensor | None = None,
        keys_values: KeysValues | None = None,
        boundaries: Boundaries | None = None,
    ) -> torch.Tensor:
        """Attend to the context, or to its keys and values from :meth:`project_context`.

        A context of V times the samples that the tokens have holds one for each of V equal
        stretches of the tokens, a stretch's samples together.

        Args:
            x_LBE: tokens.
            context_MBC: the context.
            keys_values: the context's keys and values, instead of the context.
            boundaries: where packed samples begin and end, each of which attends to its own part of
                the context.

        Returns:
            (L, B, E).
        """
        if keys_values is None:
            q_LBHD, k_MBHD, v_MBHD = self.get_query_key_value_tensors(x_LBE, context_MBC)
        else:
            q_LBHD, (k_MBHD, v_MBHD) = self._queries(x_LBE), keys_values
        num_stretches = k_MBHD.shape[1] // q_LBHD.shape[1]
        return _attend_and_project(
            self, q_LBHD, k_MBHD, v_MBHD, boundaries, num_stretches=num_stretches
        )

    def _queries(self, x_LBE: torch.Tensor) -> torch.Tensor:
        q, _ = self.linear_q(x_LBE)
        return self.q_layernorm(q.unflatten(-1, (-1, self.hidden_size_per_attention_head)))


def without_overlap(config: TransformerConfig) -> TransformerConfig:
    """The configuration of a linear layer that communicates before or after it computes.

    Transformer Engine's buffers have the shape of the tokens, which a context does not fit.
    """
    if not config.tp_comm_overlap:
        return config
    config = copy(config)
    config.tp_comm_overlap = False
    return config


def _attend_and_project(
    attention: Attention,
    q_LBHD: torch.Tensor,
    k_MBGD: torch.Tensor,
    v_MBGD: torch.Tensor,
    boundaries: Boundaries | None,
    mask: Mask | None = None,
    offsets: Sequence[int] = (0,),
    num_stretches: int = 1,
) -> torch.Tensor:
    batch = q_LBHD.shape[1]
    if num_stretches > 1:  # each as samples of their own
        q_LBHD = q_LBHD.unflatten(0, (num_stretches, -1)).transpose(0, 1).flatten(1, 2)
    if boundaries is not None:  # Megatron's convention: packed samples have no batch axis
        q_LBHD, k_MBGD, v_MBGD = (x.squeeze(1) for x in (q_LBHD, k_MBGD, v_MBGD))
    attend = partial(
        attention.core_attention, mask=mask, offsets=offsets, packed_seq_params=boundaries
    )
    if attention.checkpoint_core_attention and attention.training:
        # Megatron's own checkpoint passes on none of these arguments.
        out = tensor_parallel.checkpoint(attend, False, q_LBHD, k_MBGD, v_MBGD)
    else:
        out = attend(q_LBHD, k_MBGD, v_MBGD)
    if boundaries is not None:
        out = out.reshape(out.shape[0], 1, -1)
    if num_stretches > 1:
        out = out.unflatten(1, (num_stretches, batch)).transpose(0, 1).flatten(0, 1)
    projected, _ = attention.linear_proj(out)
    return projected
