"""What Megatron-Core 0.16 gets wrong, or does at too great a cost, when it saves a checkpoint.

- In the fully reshardable form, the distributed optimiser gathers its state bucket by bucket on
  every rank, 12 bytes a parameter of the host and 4 of the GPU, to save it by parameters; to load
  it, every rank reads the whole. Here each rank writes and reads its own share of each parameter,
  as boxes of the whole tensor (:mod:`nemo_cosmos.platform.sharded_runs`): names and tensors in the
  checkpoint stay the same, and nothing is gathered or copied.
- For a parameter that is saved in other parts than it is held in, the state is gathered as before.
  Buckets are padded so that they divide over processes; Megatron puts them together without that
  padding, but looks each parameter up at its place in the padded buffer. Whatever lies behind a
  padded bucket is saved shifted, with values of its neighbours. There are several buckets in a
  pipeline whose stages share modules, and where gradients are reduced during the backward pass.
- A process with virtual pipeline stages holds several copies of what all stages share. When writing
  is spread over processes, and a tensor falls to such a process, each of its copies is to be
  written, which Megatron then refuses.
"""

from __future__ import annotations

import functools
import importlib
import queue
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nemo_cosmos.platform.sharded_runs import sharded_run

if TYPE_CHECKING:
    from megatron.core.dist_checkpointing.mapping import ShardedTensor
    from megatron.core.distributed.param_and_grad_buffer import _ParamAndGradBuffer
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

STATES = ("param", "exp_avg", "exp_avg_sq")
STATE_PREFIX = "optimizer.state"
"""As Megatron names the tensors of the fully reshardable form."""
IndexMap = dict[nn.Parameter, tuple[int, int, int]]
"""Of each parameter, its first place in the buffer, the one behind its last, and its bucket."""


def patch_checkpoints() -> None:
    """Apply the corrections. Imports Megatron-Core."""
    _save_optimizer_state_by_shares()
    _write_copies_once()


def use_results_queue(*, in_process: bool) -> None:
    """Choose the queue through which Megatron-Core's writers report what they saved.

    Args:
        in_process: a queue of this process, which costs nothing. Otherwise Megatron-Core starts a
            manager process at the first save: writers in a child process need it.
    """
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    filesystem_async._results_queue = queue.Queue() if in_process else None


def _save_optimizer_state_by_shares() -> None:
    """Let each rank save and load its own share of the distributed optimiser's state."""
    from megatron.core.dist_checkpointing.dict_utils import nested_values
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    gather = DistributedOptimizer.sharded_param_state_fully_reshardable
    load_gathered = DistributedOptimizer.load_parameter_state_from_fully_reshardable

    @functools.wraps(gather)
    def sharded_param_state(
        self: DistributedOptimizer, model_state: object, *args: object, **kwargs: object
    ) -> object:
        entries = {
            id(entry.data): entry
            for entry in nested_values(model_state)
            if isinstance(entry, ShardedTensor | ShardedTensorFactory)
        }
        parameters = [p for buffer in self.buffers for p in buffer.param_index_map]
        if all(isinstance(entries.get(id(p)), ShardedTensor) for p in parameters):
            return {
                number: _sharded_share(self, parameter, entries[id(parameter)])
                for number, parameter in enumerate(parameters)
                if parameter in self.model_param_gbuf_map  # else it falls to other ranks
            }
        with ExitStack() as stack:
            for buffer in self.buffers:
                stack.enter_context(_without_padding(buffer))
            return gather(self, model_state, *args, **kwargs)

    @functools.wraps(load_gathered)
    @torch.no_grad()
    def load_param_state(self: DistributedOptimizer, state: dict[int, dict[str, Any]]) -> None:
        parameters = [p for buffer in self.buffers for p in buffer.param_index_map]
        if any(not isinstance(each, dict) for own in state.values() for each in own.values()):
            load_gathered(self, state)
            return
        for number, own in state.items():
            tensors = {
                name: torch.cat([box.flatten() for box in boxes.values()])
                for name, boxes in own.items()
            }
            self._set_main_param_and_optimizer_states(parameters[number], tensors)

    DistributedOptimizer.sharded_param_state_fully_reshardable = sharded_param_state
    DistributedOptimizer.load_parameter_state_from_fully_reshardable = load_param_state


def _sharded_share(
    optimizer: DistributedOptimizer, parameter: nn.Parameter, entry: ShardedTensor
) -> dict[str, dict[str, ShardedTensor]]:
    """Entries for this rank's share of a parameter's weight and moments, by name."""
    start = optimizer._get_model_param_range_map(parameter)["param"].start
    # The last number counts data-parallel ranks, each of which has a share of its own; only further
    # instances of the optimiser have the same.
    copies = (*entry.replica_id[:-1], optimizer.distributed_optimizer_instance_id)
    tensors = optimizer._get_main_param_and_optimizer_states(parameter)
    return {
        name: {
            str(number): box
            for number, box in enumerate(
                sharded_run(
                    entry,
                    tensors[name].detach(),
                    start,
                    f"{STATE_PREFIX}.{name}.{entry.key}",
                    copies,
                )
            )
        }
        for name in STATES
    }


@contextmanager
def _without_padding(buffer: _ParamAndGradBuffer) -> Iterator[None]:
    """Within the block, a buffer's parameters lie where they would if buckets were not padded."""
    padded: IndexMap = buffer.param_index_map
    buffer.param_index_map = _unpadded_index_map(buffer)
    try:
        yield
    finally:
        buffer.param_index_map = padded


def _unpadded_index_map(buffer: _ParamAndGradBuffer) -> IndexMap:
    """Where each parameter of a ``_ParamAndGradBuffer`` lies without padding between buckets."""
    shifts, shift = [], 0
    for bucket in buffer.buckets:
        shifts.append(shift)
        shift += bucket.grad_data.numel() - bucket.numel_unpadded
    return {
        parameter: (start - shifts[bucket], end - shifts[bucket], bucket)
        for parameter, (start, end, bucket) in buffer.param_index_map.items()
    }


def _write_copies_once() -> None:
    """Of a process's copies of a tensor that it is to write, let it write the first."""
    from megatron.core.dist_checkpointing.dict_utils import nested_values
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, is_main_replica
    from megatron.core.dist_checkpointing.utils import _sharded_tensor_shard_id

    module: Any = importlib.import_module(
        "megatron.core.dist_checkpointing.strategies.fully_parallel"
    )
    distribute = module.distribute_main_replicas_with_precomputed_distribution

    @functools.wraps(distribute)
    def distribute_main_replicas(
        sharded_state_dict: object, *args: object, **kwargs: object
    ) -> None:
        distribute(sharded_state_dict, *args, **kwargs)
        written = set()
        for entry in nested_values(sharded_state_dict):
            if isinstance(entry, ShardedTensor) and is_main_replica(entry.replica_id):
                shard = _sharded_tensor_shard_id(entry)
                if shard in written:
                    entry.replica_id = 1
                written.add(shard)

    module.distribute_main_replicas_with_precomputed_distribution = distribute_main_replicas
