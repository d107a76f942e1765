"""Runs of elements of a tensor, as a distributed checkpoint holds them."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from megatron.core.dist_checkpointing.mapping import ShardedTensor

from nemo_cosmos.platform.sharded_runs import boxes_of_run, sharded_run


@given(st.lists(st.integers(1, 5), max_size=4), st.data())
def test_boxes_are_the_run_and_nothing_else(shape: list[int], data: st.DataObject) -> None:
    size = math.prod(shape)
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    whole = torch.arange(size).view(shape)
    found = [
        whole[tuple(slice(at, at + n) for at, n in zip(begin, sizes, strict=True))].flatten()
        for begin, sizes in boxes_of_run(tuple(shape), start, end)
    ]
    assert torch.equal(torch.cat(found), torch.arange(start, end))
    assert len(found) <= max(2 * len(shape) - 1, 1)


def test_entries_lie_where_the_whole_tensor_lies() -> None:
    """The second layer of three, and the second of two tensor-parallel ranks' rows."""
    whole = ShardedTensor.from_rank_offsets(
        "weight", torch.zeros(2, 4), (0, 1, 3), (1, 1, 2), prepend_axis_num=1, replica_id=(0, 1, 5)
    )
    flat = torch.arange(5.0)
    head, tail = sharded_run(whole, flat, 2, "ema.weight", (0, 1, 0))
    assert (head.key, head.replica_id, head.global_shape) == ("ema.weight", (0, 1, 0), (3, 4, 4))
    assert (head.global_offset, head.local_shape) == ((1, 2, 2), (1, 1, 2))
    assert (tail.global_offset, tail.local_shape) == ((1, 3, 0), (1, 1, 3))
    flat += 1.0  # the entries are views
    assert tail.data.flatten().tolist() == [3.0, 4.0, 5.0]
