"""Runs of elements of a tensor in a distributed checkpoint, as boxes of the whole tensor.

A distributed optimiser cuts weights where shares are even, not where a row ends; a checkpoint holds
boxes. A run is a start, whole rows and an end, for each axis. Boxes can be read into any other
boxes, so that what each rank writes of its own runs, on its own, loads into every layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""First index and size along each axis."""


def sharded_run(
    entry: ShardedTensor, flat: Tensor, start: int, key: str, replica_id: tuple[int, ...]
) -> list[ShardedTensor]:
    """Entries for a run of elements of a tensor: the boxes that the run is made of.

    Args:
        entry: the sharded state's entry of the whole tensor.
        flat: values of the run; the entries hold views of them.
        start: the run's first element, counted in the flat tensor.
        key: the entries' name in the checkpoint.
        replica_id: the entries' number among copies.
    """
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

    axes, entries, taken = entry.prepend_axis_num, [], 0
    for begin, sizes in boxes_of_run(tuple(entry.local_shape), start, start + flat.numel()):
        size = math.prod(sizes)
        data = flat[taken : taken + size].view((1,) * axes + sizes)
        offset = list(entry.global_offset)
        for axis, first in enumerate(begin):
            offset[axes + axis] += first
        entries.append(
            ShardedTensor(
                key=key,
                data=data,
                dtype=data.dtype,
                local_shape=tuple(data.shape),
                global_shape=entry.global_shape,
                global_offset=tuple(offset),
                axis_fragmentations=None,  # ranks hold different numbers of elements
                replica_id=replica_id,
            )
        )
        taken += size
    return entries


def boxes_of_run(shape: tuple[int, ...], start: int, end: int) -> Iterator[Box]:
    """Cut a run of elements of a flat tensor into boxes of the tensor, in the run's order.

    Args:
        shape: the tensor's shape.
        start: the run's first element.
        end: the element behind its last.
    """
    if not shape:
        yield (), ()
        return
    inner = math.prod(shape[1:])
    while start < end:
        row, column = divmod(start, inner)
        rows = (end - start) // inner
        if column == 0 and rows:  # as many whole rows as there are
            yield (row, *(0 for _ in shape[1:])), (rows, *shape[1:])
            start += rows * inner
            continue
        stop = min(end, (row + 1) * inner)
        for begin, sizes in boxes_of_run(shape[1:], column, stop - row * inner):
            yield (row, *begin), (1, *sizes)
        start = stop
