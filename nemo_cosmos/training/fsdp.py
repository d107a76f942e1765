"""Weights, gradients and optimiser state that data-parallel processes share out (Megatron-FSDP).

Each process keeps some rows of every weight, of its gradient and of its moments. A layer is put
together while it computes, and taken apart again. In hybrid sharding, groups of processes hold a
whole model each.

Megatron-FSDP has a checkpoint format of its own. We do not use it: the rows are written as parts of
the same tensors, under the same names, as in every other layout. Such a checkpoint is verified,
resharded, averaged and exported like any other, and goes on without FSDP, or with more processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.distributed.fsdp.mcore_fsdp_adapter import FullyShardedDataParallel
from megatron.core.distributed.fsdp.src.megatron_fsdp.param_and_grad_buffer import (
    to_local_if_dtensor,
)
from megatron.core.optimizer.optimizer import param_group_identifier_keys
from megatron.core.transformer.module import Float16Module, MegatronModule
from megatron.core.transformer.transformer_layer import BaseTransformerLayer
from torch import Tensor, nn

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.parts import TensorPart, parts_of
from nemo_cosmos.platform import collective_backend, has
from nemo_cosmos.training.sharded_state import MODEL_PREFIX

MOMENTS = ("exp_avg", "exp_avg_sq")
OPTIMIZER_PREFIX = "optimizer.state"
"""As Megatron's distributed optimiser names its tensors in the fully reshardable form."""


def fsdp_config(given: Any = None) -> DistributedDataParallelConfig:
    """Settings that share out weights, gradients and optimiser state.

    Args:
        given: the user's settings, which keep what does not decide on sharding.

    Raises:
        ConfigError: they are of another kind of data parallelism.
    """
    config = DistributedDataParallelConfig() if given in (None, "megatron") else given
    if not isinstance(config, DistributedDataParallelConfig):
        raise ConfigError(
            f"trainer.strategy.ddp={given!r} does not go with trainer.strategy.fsdp=megatron. "
            "Leave it out, or give a DistributedDataParallelConfig."
        )
    return replace(
        config,
        use_distributed_optimizer=True,
        use_megatron_fsdp=True,
        data_parallel_sharding_strategy="optim_grads_params",
        gradient_reduce_div_fusion=collective_backend() == "nccl",
    )


def check_fsdp(fsdp: str, num_stages: int) -> None:
    """Refuse what FSDP does not do, before anything is built.

    Args:
        fsdp: the strategy's argument.
        num_stages: pipeline-parallel stages.

    Raises:
        ConfigError: an unknown kind, or a pipeline.
    """
    if fsdp != "megatron":
        raise ConfigError(
            f"There is no trainer.strategy.fsdp={fsdp}. Valid is 'megatron', or none."
        )
    if num_stages > 1:
        raise ConfigError(
            f"trainer.strategy.fsdp=megatron does not go with pipeline_model_parallel_size="
            f"{num_stages}: Megatron-FSDP shares out whole networks. Combine it with "
            "tensor_model_parallel_size and context_parallel_size, or leave it out."
        )


def check_fsdp_precision(precision: Any, optimizer: Any) -> None:
    """Refuse a precision and an optimiser that Megatron-FSDP cannot step.

    Args:
        precision: the trainer's plug-in.
        optimizer: NeMo's optimiser module of the model, or None.

    Raises:
        ConfigError: float16, or an optimiser whose state is not distributed, or that keeps weights
            of its own.
    """
    if getattr(getattr(precision, "dtype_config", None), "fp16", False):
        raise ConfigError(
            "trainer.strategy.fsdp=megatron does not go with trainer.precision=16-mixed. Set "
            "trainer.precision=bf16-mixed, or 32."
        )
    config = getattr(optimizer, "config", None)
    if not getattr(config, "use_distributed_optimizer", True):
        raise ConfigError(
            "trainer.strategy.fsdp=megatron shares out the optimiser's state, too. Set "
            "optim.config.use_distributed_optimizer=true."
        )
    if getattr(config, "use_precision_aware_optimizer", False):
        raise ConfigError(
            "trainer.strategy.fsdp=megatron keeps the optimiser's weights itself, in float32. Set "
            "optim.config.use_precision_aware_optimizer=false."
        )


@dataclass(frozen=True)
class Rows:
    """The rows of one weight that this process keeps.

    Attributes:
        shard: the rows in the precision of the forward pass, and their place in the whole tensor.
        place: where all rows of this tensor-parallel process lie in a checkpoint; without data.
        start: the first row, counted from there.
        main: what the optimiser steps; its rows are the same memory, or a float32 copy.
    """

    shard: TensorPart
    place: ShardedTensor
    start: int
    main: nn.Parameter

    def sharded(self, rows: Tensor, prefix: str) -> ShardedTensor:
        """An entry of a distributed checkpoint: rows like these, under a prefix."""
        axes = self.place.prepend_axis_num
        offset = list(self.place.global_offset)
        offset[axes] += self.start
        data = rows.detach().view((1,) * axes + self.shard.tensor.shape)
        return ShardedTensor(
            key=prefix + self.place.key,
            data=data,
            dtype=data.dtype,
            local_shape=tuple(data.shape),
            global_shape=self.place.global_shape,
            global_offset=tuple(offset),
            axis_fragmentations=None,  # processes hold different numbers of rows
            replica_id=self.place.replica_id,
        )


class _Called(MegatronModule):
    """Calls the network: Megatron-FSDP runs the hooks of what is inside the module it is given."""

    def __init__(self, network: MegatronModule) -> None:
        super().__init__(config=network.config)
        self.module = network

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        return self.module(*args, **kwargs)


class ShardedNetwork(FullyShardedDataParallel):
    """A network whose weights data-parallel processes share out, layer by layer.

    Args:
        config: of the network.
        ddp_config: as :func:`fsdp_config` gives it.
        module: the network, in the precision of the forward pass.
        **kwargs: as Megatron's class takes them.

    Raises:
        ConfigError: the network has no layers.
    """

    def __init__(self, config: Any, ddp_config: Any, module: nn.Module, **kwargs: Any) -> None:
        if not any(isinstance(part, BaseTransformerLayer) for part in module.modules()):
            raise ConfigError(
                "trainer.strategy.fsdp=megatron shares out the layers of a transformer, and this "
                "network has none. Leave it out: the optimiser's state is shared out anyway."
            )
        cast = isinstance(module, Float16Module)
        network: Any = module.module if cast else module
        # Places are known while the weights are whole.
        entries: dict[str, ShardedTensor] = network.sharded_state_dict()
        whole = {id(shard.tensor): shard for shard in parts_of(network)}
        super().__init__(
            config,
            ddp_config,
            module if cast else _Called(network),
            fsdp_unit_modules=[BaseTransformerLayer],
            **kwargs,
        )
        self.start_param_sync = self._start_param_sync
        for layer in network.modules():
            if isinstance(layer, BaseTransformerLayer) and hasattr(layer, "project_context"):
                layer.project_context = self._put_together(layer, layer.project_context)
        network.held_parts = self.held_parts
        mains = {
            id(main.orig_param): main
            for _, main in self.param_and_grad_buffer.optimizer_named_parameters
        }
        self._whole = {n: entry for n, entry in entries.items() if id(entry.data) not in mains}
        self._whole_shards = [shard for key, shard in whole.items() if key not in mains]
        self._rows = {
            name: self._rows_of(entry, whole[id(entry.data)], mains[id(entry.data)])
            for name, entry in entries.items()
            if id(entry.data) in mains
        }

    @property
    def rows(self) -> list[Rows]:
        """Of every weight that this process keeps rows of."""
        return [rows for rows in self._rows.values() if rows.shard.tensor.numel()]

    def held_parts(self) -> list[TensorPart]:
        """What this process holds of the network, as ``models.common.shards`` tells it."""
        return [rows.shard for rows in self.rows] + self._whole_shards

    def places(self) -> dict[str, ShardedTensor]:
        """Names and whole shapes of the network in a checkpoint, without data."""
        parts = {name: rows.place for name, rows in self._rows.items()}
        return {
            name: replace(entry.without_data(), key=MODEL_PREFIX + entry.key)
            for name, entry in (self._whole | parts).items()
        }

    def sharded_state_dict(self, prefix: str = "", *_: Any, **__: Any) -> dict[str, ShardedTensor]:
        """What this process writes into a checkpoint, or reads from it."""
        prefix += MODEL_PREFIX
        state = {
            prefix + name: replace(entry, key=prefix + entry.key)
            for name, entry in self._whole.items()
        }
        for name, rows in self._rows.items():
            if rows.shard.tensor.numel():
                state[prefix + name] = rows.sharded(rows.shard.tensor, prefix)
        return state

    @torch.no_grad()
    def load_rows(self, state: Mapping[str, Any]) -> None:
        """Take the weights over from what :meth:`sharded_state_dict` described, now filled."""
        for name, entry in self.sharded_state_dict().items():
            entry.data.copy_(state[name])

    def gather_anew(self) -> None:
        """Forget the layers that are put together at the moment: their rows have changed."""
        pipeline = self.module.all_gather_pipeline
        for bucket, backward in list(pipeline.param_gather_event_map):
            pipeline.wait_bucket_ready(bucket, backward)
        self.module.synchronize_param_gather()
        self.use_whole_weights()

    def use_whole_weights(self) -> None:
        """Give the network the weights that it computes with for the rows that are optimised."""
        self.module._replace_param_with_raw_if_needed()

    def _put_together(self, layer: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        """Have a method of a layer find whole weights, as the layer's forward pass does."""
        weights = [main.orig_param for main in layer.parameters()]
        groups = {self.param_and_grad_buffer.param_to_param_group[weight] for weight in weights}

        def call(*args: Any, **kwargs: Any) -> Any:
            self.module.all_gather_and_wait_parameters_ready(weights, prefetch=False)
            result = method(*args, **kwargs)
            for group in groups:
                self.module.all_gather_pipeline.release_bucket(group, bwd=False)
            return result

        return call

    def _start_param_sync(self, *args: Any, force_sync: bool = False, **kwargs: Any) -> None:
        """Gather the first layers; not all of them, as NeMo asks for before a save."""
        if not force_sync:
            self.module.start_param_sync(*args, **kwargs)

    def _fix_tensor_parallel_attributes(self, module: nn.Module) -> None:
        """Tag what Transformer Engine replicates; Megatron's method cannot do without it."""
        if has("transformer_engine"):
            super()._fix_tensor_parallel_attributes(module)

    def _rows_of(self, entry: ShardedTensor, whole: TensorPart, main: Any) -> Rows:
        """Find the rows of a weight that this process keeps."""
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
        shard = replace(
            whole,
            tensor=tensor,
            slices=(slice(first, first + len(tensor)), *whole.slices[1:]),
            is_main=not any(place.replica_id),
        )
        return Rows(shard, place, start, main)

    @property
    def _copy(self) -> int:
        """In hybrid sharding, which copy of the model this process belongs to."""
        outer = self.megatron_fsdp_dist_index.get_outer_fsdp_group()
        return 0 if outer is None else outer.rank()


def optimizer_state(optimizer: Any, networks: Sequence[ShardedNetwork]) -> dict[str, Any]:
    """The optimiser's state as Megatron's fully reshardable form has it.

    Args:
        optimizer: Megatron's distributed optimiser.
        networks: that it trains.
    """
    optimizer.init_state_fn(optimizer.optimizer, optimizer.config)
    state: dict[str, Any] = optimizer.state_dict()
    state["param_state"] = {
        number: {
            name: rows.sharded(tensor, f"{OPTIMIZER_PREFIX}.{name}.{MODEL_PREFIX}")
            for name, tensor in _stepped(optimizer, rows).items()
        }
        for number, rows in enumerate(_trained(networks))
    }
    state["param_state_sharding_type"] = "fully_reshardable"
    return state


@torch.no_grad()
def load_optimizer_state(
    optimizer: Any, networks: Sequence[ShardedNetwork], state: dict[str, Any]
) -> None:
    """Take over what :func:`optimizer_state` described, filled from a checkpoint."""
    saved = {_kind(group): group for group in state["optimizer"]["param_groups"]}
    for group in optimizer.optimizer.param_groups:
        settings = saved[_kind(group)]
        group.update({name: value for name, value in settings.items() if name != "params"})
    for number, rows in enumerate(_trained(networks)):
        for name, tensor in _stepped(optimizer, rows).items():
            tensor.copy_(state["param_state"][number][name].view_as(tensor))
    for network in networks:
        network.param_and_grad_buffer.copy_main_weights_to_model_weights()
        network.gather_anew()


def take_over_weights(networks: Sequence[ShardedNetwork]) -> None:
    """After rows were written in the precision of the forward pass: step them from there."""
    for network in networks:
        network.param_and_grad_buffer.copy_model_weights_to_main_weights()
        network.gather_anew()


def _trained(networks: Sequence[ShardedNetwork]) -> list[Rows]:
    return [rows for network in networks for rows in network.rows if rows.main.requires_grad]


def _stepped(optimizer: Any, rows: Rows) -> dict[str, Tensor]:
    """This process's rows of the optimiser's weights and their moments."""
    state = optimizer.optimizer.state[rows.main]
    tensors = {"param": rows.main, **{name: state[name] for name in MOMENTS}}
    return {name: to_local_if_dtensor(tensor) for name, tensor in tensors.items()}


def _kind(group: dict[str, Any]) -> tuple[Any, ...]:
    """What tells an optimiser's groups of parameters apart; schedules rename it ``pre_*``."""
    keys = param_group_identifier_keys
    return tuple(group[key] if key in group else group[f"pre_{key}"] for key in keys)
