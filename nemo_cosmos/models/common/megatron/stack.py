"""The layers of a pipeline stage: Megatron's ``TransformerBlock`` with a family's own inputs.

Megatron decides which layers a stage holds, and writes them to sharded checkpoints. What a layer
sees besides the tokens differs between families: the tensors that all layers share are one named
tuple, which recomputation saves, and what is each layer's own (a cache, keys of a text) comes as
keyword arguments.

Shape suffixes: L tokens, B batch, E model width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from megatron.core import tensor_parallel
from megatron.core.enums import Fp8Recipe
from megatron.core.fp8_utils import get_fp8_context
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import (
    TransformerBlock,
    TransformerBlockSubmodules,
    get_num_layers_to_build,
)
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.utils import get_pg_rank, make_viewless_tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.fp8 import check_fp8, check_fp8_tokens

Shared = Any
"""A family's named tuple of the tensors that all layers see besides the tokens."""
Options = Mapping[str, object]
"""Keyword arguments of a layer."""


class LayerStack(TransformerBlock):
    """The layers of this pipeline stage.

    Args:
        config: the network's configuration, which has a ``layer_spec``.
        layer_spec: spec of one layer; its module is called with tokens and the shared inputs.
        pre_process: whether this is the first stage.
        post_process: whether this is the last stage.
        pg_collection: process groups.
        vp_stage: number of the virtual pipeline stage; None without virtual stages.
    """

    def __init__(
        self,
        config: TransformerConfig,
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

    def run(
        self,
        x_LBE: torch.Tensor | None,
        c: Shared,
        each: Sequence[Options] | None = None,
        all_layers: Options | None = None,
    ) -> torch.Tensor:
        """Run the layers; returns (L, B, E).

        Args:
            x_LBE: tokens; ignored on a later pipeline stage, which gets them from the stage before.
            c: what all layers see besides the tokens.
            each: further arguments of each layer; not with recomputation.
            all_layers: further arguments of all layers.

        Raises:
            ConfigError: a later stage has no tokens, or their number does not suit FP8.
        """
        if not self.pre_process:
            x_LBE = self.input_tensor
        if x_LBE is None:
            raise ConfigError("A pipeline stage was run without the tokens of the stage before.")
        check_fp8_tokens(self.config, x_LBE.shape[0] * x_LBE.shape[1], "tokens of video")
        options = all_layers or {}
        # Delayed scaling updates its scales once, when the context of all layers ends; the other
        # recipes may leave single layers in bfloat16 and so have a context for each.
        delayed = self.config.fp8 and self.config.fp8_recipe == Fp8Recipe.delayed
        with get_fp8_context(self.config) if delayed else nullcontext():
            if self.config.recompute_granularity == "full" and self.training:
                x_LBE = self._forward_recomputing(x_LBE, c, options)
            else:
                for index, layer in enumerate(self.layers):
                    with self._precision_of(layer):
                        x_LBE = layer(x_LBE, c, **(each[index] if each else {}), **options)
        # The pipeline schedule frees a stage's output, which must therefore not be a view.
        return x_LBE if self.post_process else make_viewless_tensor(x_LBE, True, True)

    def _forward_recomputing(
        self, x_LBE: torch.Tensor, c: Shared, options: Options
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
            run = partial(self._run_some, self.layers[first:end], type(c), options)
            x_LBE = self._checkpoint(run, x_LBE, c) if recompute else run(x_LBE, *c)
        return x_LBE

    def _run_some(
        self,
        layers: Iterable[Any],
        shared: type[Shared],
        options: Options,
        x_LBE: torch.Tensor,
        *c: torch.Tensor | None,
    ) -> torch.Tensor:
        """Run consecutive layers; checkpoints save tensors that are arguments, one by one."""
        for layer in layers:
            with self._precision_of(layer):
                x_LBE = layer(x_LBE, shared(*c), **options)
        return x_LBE

    def _checkpoint(
        self, run: Callable[..., torch.Tensor], x_LBE: torch.Tensor, c: Shared
    ) -> torch.Tensor:
        """Run now, and again in the backward pass."""
        if not x_LBE.requires_grad:
            # Where all before the layers is frozen, torch would not run their backward pass, and
            # adapters inside would learn nothing.
            x_LBE = x_LBE.detach().requires_grad_(torch.is_grad_enabled())
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

    def _precision_of(self, layer: Any) -> AbstractContextManager[None]:
        """FP8 for this layer, unless delayed scaling has it for all."""
        if self.config.fp8 and self.config.fp8_recipe != Fp8Recipe.delayed:
            return get_fp8_context(self.config, layer.layer_number - 1)
        return nullcontext()
