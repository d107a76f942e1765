"""What Megatron-Core 0.16 gets wrong when it saves a checkpoint, on any device.

- The distributed optimiser keeps its state in buckets, whose ends are padded so that they divide
  over processes. To save it in the fully reshardable form, it puts the buckets together without
  that padding, but looks each parameter up at its place in the padded buffer. Whatever lies behind
  a padded bucket is saved shifted, with values of its neighbours. There are several buckets in a
  pipeline whose stages share modules, and where gradients are reduced during the backward pass.
- A process with virtual pipeline stages holds several copies of what all stages share. When writing
  is spread over processes, and a tensor falls to such a process, each of its copies is to be
  written, which Megatron then refuses.

Loading is correct in both cases, so only saving is corrected.
"""

from __future__ import annotations

import functools
import importlib
import queue
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from megatron.core.distributed.param_and_grad_buffer import _ParamAndGradBuffer

IndexMap = dict[nn.Parameter, tuple[int, int, int]]
"""Of each parameter, its first place in the buffer, the one behind its last, and its bucket."""


def patch_checkpoints() -> None:
    """Apply both corrections. Imports Megatron-Core."""
    _save_optimizer_state_in_place()
    _write_copies_once()


def use_results_queue(*, in_process: bool) -> None:
    """Choose the queue through which Megatron-Core's writers report what they saved.

    Args:
        in_process: a queue of this process, which costs nothing. Otherwise Megatron-Core starts a
            manager process at the first save: writers in a child process need it.
    """
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    filesystem_async._results_queue = queue.Queue() if in_process else None


def _save_optimizer_state_in_place() -> None:
    """Let the distributed optimiser save every parameter's own state."""
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    shard = DistributedOptimizer.sharded_param_state_fully_reshardable

    @functools.wraps(shard)
    def sharded_param_state(self: DistributedOptimizer, *args: object, **kwargs: object) -> object:
        with ExitStack() as stack:
            for buffer in self.buffers:
                stack.enter_context(_without_padding(buffer))
            return shard(self, *args, **kwargs)

    DistributedOptimizer.sharded_param_state_fully_reshardable = sharded_param_state


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
