"""A network whose weights, gradients and moments data-parallel ranks shard (Megatron-FSDP).

Each rank keeps some rows of every weight, of its gradient and of its moments. A layer is gathered
while it computes, and released afterwards. In hybrid sharding, groups of ranks hold a whole model
each.

Megatron-FSDP has a checkpoint format of its own. We do not use it: the rows are written as parts of
the same tensors, under the same names, as in every other layout. Such a checkpoint is verified,
resharded, averaged and exported like any other, and resumes without FSDP, or with more ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from megatron.core.distributed.fsdp.mcore_fsdp_adapter import FullyShardedDataParallel
from megatron.core.distributed.fsdp.src.megatron_fsdp.param_and_grad_buffer import (
    to_local_if_dtensor,
)
from megatron.core.transformer.module import Float16Module, MegatronModule
from megatron.core.transformer.transformer_layer import BaseTransformerLayer
from torch import Tensor, nn

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.parts import TensorPart, parts_of
from nemo_cosmos.platform import collective_backend, has
from nemo_cosmos.platform.patches.fsdp import frozen_weights_accepted
from nemo_cosmos.training.checkpointing.sharded_state import MODEL_PREFIX

if TYPE_CHECKING:
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.transformer import TransformerConfig


@dataclass(frozen=True)
class Rows:
    """The rows of one weight that this rank keeps.

    Attributes:
        part: the rows in the precision of the forward pass, and their place in the whole tensor.
        place: the place of all rows of this tensor-parallel rank in a checkpoint; without data.
        start: this rank's first row, counted from there.
        main: the parameter that the optimiser steps; its rows share memory with the part, or are
            a float32 copy.
    """

    part: TensorPart
    place: ShardedTensor
    start: int
    main: nn.Parameter

    def sharded(self, rows: Tensor, prefix: str) -> ShardedTensor:
        """An entry of a distributed checkpoint: rows like these, under a prefix."""
        axes = self.place.prepend_axis_num
        offset = list(self.place.global_offset)
        offset[axes] += self.start
        data = rows.detach().view((1,) * axes + self.part.tensor.shape)
        return ShardedTensor(
            key=prefix + self.place.key,
            data=data,
            dtype=data.dtype,
            local_shape=tuple(data.shape),
            global_shape=self.place.global_shape,
            global_offset=tuple(offset),
            axis_fragmentations=None,  # ranks hold different numbers of rows
            replica_id=self.place.replica_id,
        )


class _Called(MegatronModule):
    """Calls the network: Megatron-FSDP hooks only what is inside the module that it is given."""

    def __init__(self, network: MegatronModule) -> None:
        super().__init__(config=network.config)
        self.module = network

    def forward(self, *args: object, **kwargs: object) -> object:
        """Run the network."""
        return self.module(*args, **kwargs)


class ShardedNetwork(FullyShardedDataParallel):
    """A network whose weights data-parallel ranks shard, layer by layer.

    Args:
        config: the network's configuration.
        ddp_config: settings that :func:`nemo_cosmos.training.fsdp.config.fsdp_config` returned.
        module: the network, in the precision of the forward pass.
        **kwargs: further arguments of Megatron's class.

    Raises:
        ConfigError: the network has no layers.
    """

    def __init__(
        self,
        config: TransformerConfig,
        ddp_config: DistributedDataParallelConfig,
        module: nn.Module,
        **kwargs: object,
    ) -> None:
        if not any(isinstance(part, BaseTransformerLayer) for part in module.modules()):
            raise ConfigError(
                "trainer.strategy.fsdp=megatron shards the layers of a transformer, and this "
                "network has none. Leave it out: the optimiser's state is sharded anyway."
            )
        cast = isinstance(module, Float16Module)
        network: Any = module.module if cast else module
        # Read where each weight lies before Megatron-FSDP takes the whole ones apart.
        entries: dict[str, ShardedTensor] = network.sharded_state_dict()
        whole = {id(part.tensor): part for part in parts_of(network)}
        with frozen_weights_accepted():
            super().__init__(
                config,
                ddp_config,
                module if cast else _Called(network),
                fsdp_unit_modules=[BaseTransformerLayer],
                **kwargs,
            )
        self.start_param_sync = self._start_param_sync
        if collective_backend() == "gloo":
            # gloo corrupts the heap now and then when its thread unpacks several gathered weights
            # while this one computes (torch 2.13): gather a layer when it is needed, not ahead.
            pipeline = self.module.all_gather_pipeline
            pipeline.all_gather_params = partial(
                pipeline.all_gather_params, async_param_gather=False
            )
        for layer in network.modules():
            if isinstance(layer, BaseTransformerLayer) and hasattr(layer, "project_context"):
                layer.project_context = self._put_together(layer, layer.project_context)
        network.held_parts = self.held_parts
        mains = {
            id(main.orig_param): main
            for _, main in self.param_and_grad_buffer.optimizer_named_parameters
        }
        self._whole = {n: entry for n, entry in entries.items() if id(entry.data) not in mains}
        self._whole_parts = [part for key, part in whole.items() if key not in mains]
        self._rows = {
            name: self._rows_of(entry, whole[id(entry.data)], mains[id(entry.data)])
            for name, entry in entries.items()
            if id(entry.data) in mains
        }

    @property
    def rows(self) -> list[Rows]:
        """The rows of every weight that this rank keeps any of."""
        return [rows for rows in self._rows.values() if rows.part.tensor.numel()]

    def held_parts(self) -> list[TensorPart]:
        """This rank's parts of the network, as ``models.common.megatron.parts`` asks for them."""
        return [rows.part for rows in self.rows] + self._whole_parts

    def places(self) -> dict[str, ShardedTensor]:
        """Names and whole shapes of the network in a checkpoint, without data."""
        parts = {name: rows.place for name, rows in self._rows.items()}
        return {
            name: replace(entry.without_data(), key=MODEL_PREFIX + entry.key)
            for name, entry in (self._whole | parts).items()
        }

    def sharded_state_dict(
        self, prefix: str = "", *_: object, **__: object
    ) -> dict[str, ShardedTensor]:
        """This rank's entries of a checkpoint, to write or to read."""
        prefix += MODEL_PREFIX
        state = {
            prefix + name: replace(entry, key=prefix + entry.key)
            for name, entry in self._whole.items()
        }
        for name, rows in self._rows.items():
            if rows.part.tensor.numel():
                state[prefix + name] = rows.sharded(rows.part.tensor, prefix)
        return state

    @torch.no_grad()
    def load_rows(self, state: Mapping[str, object]) -> None:
        """Restore the weights from entries of :meth:`sharded_state_dict`, now filled."""
        for name, entry in self.sharded_state_dict().items():
            if name in state:  # a run with adapters saves what it trains
                entry.data.copy_(state[name])

    def gather_again(self) -> None:
        """Drop the layers that are gathered at the moment: their rows have changed."""
        pipeline = self.module.all_gather_pipeline
        for bucket, backward in list(pipeline.param_gather_event_map):
            pipeline.wait_bucket_ready(bucket, backward)
        self.module.synchronize_param_gather()
        self.use_whole_weights()

    def use_whole_weights(self) -> None:
        """Let the network compute with its whole weights instead of the rows that are optimised."""
        self.module._replace_param_with_raw_if_needed()

    def _put_together(self, layer: Any, method: Callable[..., object]) -> Callable[..., object]:
        """Gather a layer's weights around one of its methods, as its forward pass does."""
        weights = [main.orig_param for main in layer.parameters()]
        groups = {self.param_and_grad_buffer.param_to_param_group[weight] for weight in weights}

        def call(*args: Any, **kwargs: Any) -> Any:
            self.module.all_gather_and_wait_parameters_ready(weights, prefetch=False)
            result = method(*args, **kwargs)
            for group in groups:
                self.module.all_gather_pipeline.release_bucket(group, bwd=False)
            return result

        return call

    def _start_param_sync(self, *args: object, force_sync: bool = False, **kwargs: object) -> None:
        """Gather the first layers, but not all of them, as NeMo would before a save."""
        if not force_sync:
            self.module.start_param_sync(*args, **kwargs)

    def _fix_tensor_parallel_attributes(self, module: nn.Module) -> None:
        """Tag what Transformer Engine replicates; Megatron's method imports it."""
        if has("transformer_engine"):
            super()._fix_tensor_parallel_attributes(module)

    def _rows_of(self, entry: ShardedTensor, whole: TensorPart, main: Any) -> Rows:
        """Find the rows of a weight that this rank keeps."""
        shape = main.orig_param.shape
        buffers = self.param_and_grad_buffer
        buffer = buffers.parameter_groups[
            buffers.param_to_param_group[main.orig_param]
        ].model_weight_buffer
        item = buffer.param_idx[main.orig_param]
        tensor = buffer.get_item(item, only_shard=True).view(-1, *shape[1:])
        start = buffer.locate_item_in_global_item(item)[0] // shape[1:].numel()
        if buffer.dtype != main.dtype:  # the optimiser steps a copy
            tensor.main_param = to_local_if_dtensor(main)
        first = whole.slices[0].start + start
        place = replace(entry.without_data(), replica_id=(*entry.replica_id[:-1], self._copy))
        part = replace(
            whole,
            tensor=tensor,
            slices=(slice(first, first + len(tensor)), *whole.slices[1:]),
            is_main=not any(place.replica_id),
        )
        return Rows(part, place, start, main)

    @property
    def _copy(self) -> int:
        """The number of the copy of the model that this rank is part of, in hybrid sharding."""
        outer = self.megatron_fsdp_dist_index.get_outer_fsdp_group()
        return 0 if outer is None else outer.rank()
