"""Which part of each tensor of a whole network this rank holds, and how to join the parts.

Tensor parallelism splits a tensor along an axis, and a pipeline stage numbers its layers from zero.
Megatron's sharded state records the place of each part in the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from torch import Tensor, nn

from nemo_cosmos.models.common.megatron.extra_state import SUFFIX
from nemo_cosmos.platform import default_device

LAYERS = "layers."
"""Megatron's sharded state leaves a layer's number out of its name, after this word."""

Listing = tuple[str, tuple[int, ...], tuple[slice, ...], torch.dtype]
"""Name, shape of the whole, place and type of a part: what ranks tell each other before data."""


@dataclass(frozen=True)
class TensorPart:
    """A part of a tensor of the whole network.

    Attributes:
        name: the tensor's name in ``state_dict()`` of the whole network.
        tensor: the part, as this rank's network holds it.
        whole_shape: shape of the whole tensor.
        slices: place of the part in the whole tensor.
        is_main: whether this rank, of all that hold the part, writes it.
    """

    name: str
    tensor: Tensor
    whole_shape: tuple[int, ...]
    slices: tuple[slice, ...]
    is_main: bool


def parts_of(network: nn.Module) -> list[TensorPart]:
    """Every tensor of this rank's part of a network.

    Args:
        network: a Megatron module, or any other module, which is taken to be whole. A network whose
            weights are spread over data-parallel ranks reports its own parts by ``held_parts()``.
    """
    held = cast("Callable[[], Iterable[TensorPart]] | None", getattr(network, "held_parts", None))
    if held is not None:
        return list(held())
    state = network.state_dict(keep_vars=True)
    tensors = {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and not name.endswith(SUFFIX)
    }
    make_sharded = getattr(network, "sharded_state_dict", None)
    sharded = {} if make_sharded is None else make_sharded()
    return [_part(name, tensor, sharded.get(name)) for name, tensor in tensors.items()]


def _part(name: str, tensor: Tensor, entry: object) -> TensorPart:
    if not isinstance(entry, ShardedTensor):
        everything = tuple(slice(0, size) for size in tensor.shape)
        return TensorPart(name, tensor, tuple(tensor.shape), everything, is_main=True)
    axes = entry.prepend_axis_num
    offsets, sizes = entry.global_offset[axes:], entry.local_shape
    if axes:  # layers are stacked along the first axis
        name = entry.key.replace(LAYERS, f"{LAYERS}{entry.global_offset[0]}.", 1)
    return TensorPart(
        name,
        tensor,
        tuple(entry.global_shape[axes:]),
        tuple(slice(start, start + size) for start, size in zip(offsets, sizes, strict=True)),
        # The replica number is zero, on every axis, for the one copy that is to be written.
        is_main=not any(
            entry.replica_id if isinstance(entry.replica_id, tuple) else (entry.replica_id,)
        ),
    )


@torch.no_grad()
def whole_state(networks: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Gather a whole network's tensors on rank 0, one after the other.

    Every rank calls it. With one rank it is ``state_dict()`` without copies.

    Args:
        networks: this rank's network, or its parts where a pipeline stage has several.

    Returns:
        On rank 0, every tensor by name, on the CPU; nothing on the others.
    """
    own = [part for network in networks for part in parts_of(network) if part.is_main]
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return {part.name: part.tensor.detach() for part in own}
    rank = dist.get_rank()
    listings: list[list[Listing]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(
        listings, [(p.name, p.whole_shape, p.slices, p.tensor.dtype) for p in own]
    )
    whole: dict[str, Tensor] = {}
    # One tensor at a time, so that rank 0 never holds more than the whole and one part.
    for holder, listing in enumerate(listings):
        for index, (name, whole_shape, slices, dtype) in enumerate(listing):
            if rank == holder != 0:
                dist.send(own[index].tensor.detach().contiguous(), 0)
            if rank != 0:
                continue
            if holder == 0:
                tensor = own[index].tensor.detach()
            else:
                sizes = [side.stop - side.start for side in slices]
                tensor = torch.empty(sizes, dtype=dtype, device=default_device())
                dist.recv(tensor, holder)
            if name not in whole:
                whole[name] = torch.empty(whole_shape, dtype=dtype)
            whole[name][slices] = tensor.cpu()
    return whole
