"""The layer of the diffusion transformer and the stack of layers, on Megatron-Core.

A layer is self-attention, cross-attention to the text and a feed-forward network, each normalised
and modulated by the noise level and added to the residual through a gate. The stack is Megatron's
``TransformerBlock`` (which layers this pipeline stage holds, sharded checkpoints, recomputation
settings) with the DiT's inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from megatron.core import tensor_parallel
from megatron.core.enums import Fp8Recipe
from megatron.core.fp8_utils import get_fp8_context
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec, build_module
from megatron.core.transformer.transformer_block import (
    TransformerBlock,
    TransformerBlockSubmodules,
    get_num_layers_to_build,
)
from megatron.core.transformer.transformer_layer import (
    BaseTransformerLayer,
    get_transformer_layer_offset,
)
from megatron.core.utils import get_pg_rank, make_viewless_tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.attention.core import KeysValues
from nemo_cosmos.models.common.fused import (
    add_gated,
    add_gated_and_modulate,
    modulate,
    place_and_modulate,
)
from nemo_cosmos.models.common.megatron.fp8 import check_fp8, check_fp8_tokens
from nemo_cosmos.models.common.megatron.initialization import spread_parts_as_whole
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


class DiTStack(TransformerBlock):
    """The layers of this pipeline stage.

    Args:
        config: the network's configuration.
        layer_spec: spec of one :class:`DiTLayer`.
        pre_process: whether this is the first stage.
        post_process: whether this is the last stage.
        pg_collection: process groups.
        vp_stage: number of the virtual pipeline stage; None without virtual stages.
    """

    def __init__(
        self,
        config: DiTConfig,
        layer_spec: ModuleSpec,
        pre_process: bool,
        post_process: bool,
        pg_collection: ProcessGroupCollection,
        vp_stage: int | None = None,
    ) -> None:
        # A trainer's precision sets fp8 after the configuration has checked itself.
        check_fp8(config, config.layer_spec)
        num_layers = get_num_layers_to_build(config, vp_stage, get_pg_rank(pg_collection.pp))
        super().__init__(
            config,
            TransformerBlockSubmodules(layer_specs=[layer_spec] * num_layers),
            post_layer_norm=False,
            pre_process=pre_process,
            post_process=post_process,
            pg_collection=pg_collection,
            vp_stage=vp_stage,
        )

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
        if not self.pre_process:
            x_LBE = self.input_tensor
        if x_LBE is None:
            raise ConfigError("A pipeline stage was run without the tokens of the stage before.")
        check_fp8_tokens(self.config, x_LBE.shape[0] * x_LBE.shape[1], "tokens of video")
        if c.context_MBC is not None:
            num_context_tokens = c.context_MBC.shape[0] * c.context_MBC.shape[1]
            check_fp8_tokens(self.config, num_context_tokens, "tokens of text")
        # Delayed scaling updates its scales once, when the context of all layers ends; the other
        # recipes may leave single layers in bfloat16 and so have a context for each.
        delayed = self.config.fp8 and self.config.fp8_recipe == Fp8Recipe.delayed
        with get_fp8_context(self.config) if delayed else nullcontext():
            if self.config.recompute_granularity == "full" and self.training:
                x_LBE = self._forward_recomputing(x_LBE, c, packing)
            else:
                for index, layer in enumerate(self.layers):
                    with self._precision_of(layer):
                        layer_kv = keys_values[index] if keys_values else None
                        x_LBE = layer(x_LBE, c, layer_kv, packing)
        # The pipeline schedule frees a stage's output, which must therefore not be a view.
        return x_LBE if self.post_process else make_viewless_tensor(x_LBE, True, True)

    def project_context(self, context_MBC: torch.Tensor) -> list[KeysValues]:
        """Keys and values of the context for each layer."""
        return [layer.project_context(context_MBC) for layer in self.layers]

    def _forward_recomputing(
        self, x_LBE: torch.Tensor, c: LayerInputs, packing: Packing | None
    ) -> torch.Tensor:
        """Keep only the inputs of groups of layers, as ``config.recompute_*`` asks for."""
        num_recomputed, num_layers = self.config.recompute_num_layers, len(self.layers)
        if self.config.recompute_method == "uniform":  # groups of so many layers
            starts = range(0, num_layers, num_recomputed)
            groups = [(i, min(i + num_recomputed, num_layers), True) for i in starts]
        elif self.config.recompute_method == "block":  # so many layers, each alone
            groups = [(i, i + 1, i < num_recomputed) for i in range(num_layers)]
        else:
            raise ConfigError(
                f"recompute_method={self.config.recompute_method!r} is unknown. "
                "Use 'uniform' or 'block'."
            )
        for first, end, recompute in groups:
            run = partial(self._run_some, self.layers[first:end], packing)
            x_LBE = self._checkpoint(run, x_LBE, c) if recompute else run(x_LBE, *c)
        return x_LBE

    def _run_some(
        self,
        layers: Iterable[DiTLayer],
        packing: Packing | None,
        x_LBE: torch.Tensor,
        *c: torch.Tensor | None,
    ) -> torch.Tensor:
        """Run consecutive layers; checkpoints save tensors that are arguments, one by one."""
        for layer in layers:
            with self._precision_of(layer):
                x_LBE = layer(x_LBE, LayerInputs(*c), packing=packing)  # type: ignore[arg-type]
        return x_LBE

    def _checkpoint(
        self, run: Callable[..., torch.Tensor], x_LBE: torch.Tensor, c: LayerInputs
    ) -> torch.Tensor:
        """Run now, and again in the backward pass."""
        distribute = self.config.distribute_saved_activations
        out: torch.Tensor
        if not self.config.fp8:
            out = tensor_parallel.checkpoint(run, distribute, x_LBE, *c)
            return out
        # Transformer Engine's own restores the FP8 state that the first run had.
        from megatron.core.extensions.transformer_engine import te_checkpoint

        tracker = tensor_parallel.random.get_cuda_rng_tracker
        out = te_checkpoint(run, distribute, tracker, self.tp_group, x_LBE, *c)
        return out

    def _precision_of(self, layer: DiTLayer) -> AbstractContextManager[None]:
        """FP8 for this layer, unless delayed scaling has it for all."""
        if self.config.fp8 and self.config.fp8_recipe != Fp8Recipe.delayed:
            return get_fp8_context(self.config, layer.layer_number - 1)
        return nullcontext()
