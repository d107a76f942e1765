"""Which part of each tensor of a whole network this process holds, and how to put it together.

Tensor parallelism splits a tensor along an axis; a pipeline stage numbers its layers from zero.
Megatron's sharded state knows the place of each part in the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from torch import Tensor, nn

from nemo_cosmos.platform import default_device

LAYERS = "layers."
"""Megatron's sharded state leaves the number of a layer out of its name, behind this word."""


@dataclass(frozen=True)
class Shard:
    """A part of a tensor of the whole network.

    Attributes:
        name: of the tensor in ``state_dict()`` of the whole network.
        tensor: the part, as this process's network holds it.
        whole_shape: of the tensor.
        part: where the part lies in it.
        is_main: whether this process is the one, of all that hold the part, to write it.
    """

    name: str
    tensor: Tensor
    whole_shape: tuple[int, ...]
    part: tuple[slice, ...]
    is_main: bool


def shards_of(network: nn.Module) -> list[Shard]:
    """Every tensor of this process's part of a network.

    Args:
        network: a Megatron module, or any other, which is taken to be whole. One whose weights
            data-parallel processes share out tells itself what it holds, by ``held_shards()``.
    """
    held: Any = getattr(network, "held_shards", None)
    if held is not None:
        return list(held())
    state = network.state_dict(keep_vars=True)
    tensors = {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and not name.endswith("_extra_state")
    }
    make_sharded = getattr(network, "sharded_state_dict", None)
    sharded = {} if make_sharded is None else make_sharded()
    return [_shard(name, tensor, sharded.get(name)) for name, tensor in tensors.items()]


def _shard(name: str, tensor: Tensor, entry: Any) -> Shard:
    if not isinstance(entry, ShardedTensor):
        whole = tuple(slice(0, size) for size in tensor.shape)
        return Shard(name, tensor, tuple(tensor.shape), whole, is_main=True)
    axes = entry.prepend_axis_num
    offsets, sizes = entry.global_offset[axes:], entry.local_shape
    if axes:  # layers are stacked along the first axis
        name = entry.key.replace(LAYERS, f"{LAYERS}{entry.global_offset[0]}.", 1)
    return Shard(
        name,
        tensor,
        tuple(entry.global_shape[axes:]),
        tuple(slice(start, start + size) for start, size in zip(offsets, sizes, strict=True)),
        is_main=not any(
            entry.replica_id if isinstance(entry.replica_id, tuple) else (entry.replica_id,)
        ),
    )


@torch.no_grad()
def whole_state(networks: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Gather a whole network's tensors on the first process, one after the other.

    Every process calls it. With one process it is its ``state_dict()`` without copies.

    Args:
        networks: this process's part, or its parts where a pipeline stage has several.

    Returns:
        On the first process, every tensor by name, on the CPU; nothing on the others.
    """
    own = [shard for network in networks for shard in shards_of(network) if shard.is_main]
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return {shard.name: shard.tensor.detach() for shard in own}
    rank = dist.get_rank()
    places: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(places, [(s.name, s.whole_shape, s.part, s.tensor.dtype) for s in own])
    whole: dict[str, Tensor] = {}
    for holder, listed in enumerate(places):
        for index, (name, whole_shape, part, dtype) in enumerate(listed):
            if rank == holder != 0:
                dist.send(own[index].tensor.detach().contiguous(), 0)
            if rank != 0:
                continue
            sizes = [side.stop - side.start for side in part]
            if holder == 0:
                tensor = own[index].tensor.detach()
            else:
                tensor = torch.empty(sizes, dtype=dtype, device=default_device())
                dist.recv(tensor, holder)
            if name not in whole:
                whole[name] = torch.empty(whole_shape, dtype=dtype)
            whole[name][part] = tensor.cpu()
    return whole
