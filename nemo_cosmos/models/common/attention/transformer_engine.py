"""The attention cores of the ``transformer_engine`` layer spec: NVIDIA's kernels, our masks.

Transformer Engine is imported when the classes are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

import torch
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.attention.masks import CAUSAL, FULL, Mask, key_ranges, mask_of
from nemo_cosmos.models.common.packed import Boundaries
from nemo_cosmos.platform import require


class TransformerEngineCores(NamedTuple):
    """The classes at the places of a layer spec.

    Attributes:
        self_attention: attention of the tokens to each other, spread over context-parallel ranks.
        context_attention: attention to a context that is whole on every rank.
    """

    self_attention: type
    context_attention: type


def transformer_engine_cores() -> TransformerEngineCores:
    """Return the classes.

    Raises:
        MissingDependencyError: Transformer Engine is not installed.
    """
    require("transformer_engine", purpose="the layer spec 'transformer_engine'")
    from megatron.core.extensions.transformer_engine import TEDotProductAttention

    class TESelfAttention(TEDotProductAttention):
        """Transformer Engine's attention, with its mask given by a description.

        Over context-parallel ranks, a causal mask takes the tokens in zigzag order, as ours does.
        """

        def __init__(
            self, config: TransformerConfig, layer_number: int, attn_mask_type: AttnMaskType,
            *args: Any, **kwargs: Any,
        ) -> None:  # fmt: skip
            super().__init__(config, layer_number, attn_mask_type, *args, **kwargs)
            self.mask = mask_of(attn_mask_type)

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
            """Attend; returns (L, B, H * D). See :meth:`LocalCoreAttention.forward`.

            Raises:
                ConfigError: a mask of blocks or windows over ranks or packed samples.
            """
            mask = mask or self.mask
            is_spread = self.config.context_parallel_size > 1
            if mask not in (FULL, CAUSAL) and (is_spread or packed_seq_params is not None):
                raise ConfigError(
                    f"Transformer Engine takes {mask} neither over context-parallel ranks nor for "
                    "packed samples. Use layer_spec='local', or context_parallel_size=1 and no "
                    "packs."
                )
            kind, hidden = te_mask(mask, len(q_LBHD), len(k_MBGD), offsets, q_LBHD.device)
            out: torch.Tensor = super().forward(
                q_LBHD,
                k_MBGD,
                v_MBGD,
                hidden,
                attn_mask_type=kind,
                packed_seq_params=packed_seq_params,
            )
            return out

    class TEContextAttention(TESelfAttention):
        """Attention to a context whose keys and values are not gathered over ranks."""

        def __init__(self, config: TransformerConfig, *args: Any, **kwargs: Any) -> None:
            config = copy(config)
            config.context_parallel_size = 1
            super().__init__(config, *args, **kwargs)

    return TransformerEngineCores(TESelfAttention, TEContextAttention)


def te_mask(
    mask: Mask, num_queries: int, num_keys: int, offsets: Sequence[int], device: torch.device
) -> tuple[AttnMaskType, torch.Tensor | None]:
    """Return Transformer Engine's word for a mask and, where it has none, what is hidden.

    Returns:
        The word, and for ``arbitrary`` a tensor (1 or B, 1, L, M), True where a key is hidden.
    """
    if mask == FULL and len(set(offsets)) == 1:
        return AttnMaskType.no_mask, None
    ranges = key_ranges(mask, num_queries, num_keys, offsets, device)
    if ranges is None:
        return AttnMaskType.no_mask, None
    if ranges.is_triangle:
        return AttnMaskType.causal, None
    if mask == CAUSAL and len(set(offsets)) == 1:
        return AttnMaskType.causal_bottom_right, None
    seen = ranges.mask(num_keys)
    return AttnMaskType.arbitrary, ~(seen[None, None] if seen.dim() == 2 else seen)
