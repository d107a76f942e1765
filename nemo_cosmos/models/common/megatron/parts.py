"""Which part of each tensor of a whole network this rank holds, and how to join the parts.

Tensor parallelism splits a tensor along an axis, and a pipeline stage numbers its layers from zero.
Megatron's sharded state records the place of each part in the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from torch import Tensor, nn

from nemo_cosmos.models.common.megatron.extra_state import SUFFIX
from nemo_cosmos.platform import default_device

LAYERS = "layers."
"""Megatron's sharded state leaves a layer's number out of its name, after this word."""
LAYER = "whole_layer"
"""Attribute of a weight that only some layers have: its layer's number in the whole network."""

Listing = dict[str, tuple[tuple[int, ...], tuple[slice, ...], torch.dtype]]
"""Shape of the whole, place and type of a rank's parts by name: what ranks tell each other before
data."""


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
        number = getattr(tensor, LAYER, entry.global_offset[0])
        name = entry.key.replace(LAYERS, f"{LAYERS}{number}.", 1)
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
    listings: list[Listing] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(
        listings, {p.name: (p.whole_shape, p.slices, p.tensor.dtype) for p in own}
    )
    tensors = {part.name: part.tensor.detach() for part in own}
    whole: dict[str, Tensor] = {}
    # One tensor at a time, so that rank 0 never holds more than the whole and one tensor's parts.
    for name in {name: None for listing in listings for name in listing}:
        parts = _gather([listing.get(name) for listing in listings], tensors.get(name))
        for slices, tensor in parts:
            if name not in whole:
                shape, _, dtype = next(listing[name] for listing in listings if name in listing)
                whole[name] = torch.empty(shape, dtype=dtype)
            whole[name][slices] = tensor.cpu()
    return whole


def _gather(
    holders: Sequence[tuple[tuple[int, ...], tuple[slice, ...], torch.dtype] | None],
    own: Tensor | None,
) -> list[tuple[tuple[slice, ...], Tensor]]:
    """Gather a tensor's parts on rank 0: the place and data of each.

    One exchange of all ranks, most of which send nothing. NCCL makes a communicator of its own for
    each pair of ranks that ``send`` and ``recv`` connect outside such an exchange.
    """
    places = [None if each is None else each[1] for each in holders]
    sizes = [0 if place is None else _numel(place) for place in places]
    dtype = next(each[2] for each in holders if each is not None)
    rank, num_ranks = dist.get_rank(), len(holders)
    empty = partial(torch.empty, dtype=dtype, device=default_device())
    sent = empty(0) if own is None else own.reshape(-1).contiguous()
    arriving = sizes if rank == 0 else [0] * num_ranks
    received = empty(sum(arriving))
    leaving = [len(sent)] + [0] * (num_ranks - 1)
    dist.all_to_all_single(received, sent, arriving, leaving)
    if rank != 0:
        return []
    return [
        (place, part.view([side.stop - side.start for side in place]))
        for place, part in zip(places, received.split(sizes), strict=True)
        if place is not None
    ]


def _numel(place: tuple[slice, ...]) -> int:
    return math.prod(side.stop - side.start for side in place)
