"""Modules that every stage of a pipeline holds a copy of.

A stage needs more than the tokens of the stage before: noise level, position, text and controls. It
computes them itself from the batch, which every stage reads. Sending them would cost more: their
size grows with the video, while the modules that make them are small. So every stage has a copy of
these modules, and the copies must stay equal:

- they start from the same weights (:func:`same_on_all_stages`);
- Megatron sums their gradients over the stages, counts their norm once, and cuts the distributed
  optimiser's shares of them alike on all stages (:func:`tag_copies`);
- a checkpoint holds them once (:func:`number_copies`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.mapping import ShardedObject, ShardedTensor
from torch import nn

from nemo_cosmos.platform import default_device, seeded


@contextmanager
def same_on_all_stages(pp_group: dist.ProcessGroup, salt: int = 0) -> Iterator[None]:
    """Within the block, every stage draws the same random numbers; after it, as if it were not.

    Args:
        pp_group: the pipeline's process group. With a single stage the block changes nothing.
        salt: a different number for each block, so that two blocks do not draw the same.
    """
    if pp_group.size() == 1:
        yield
        return
    seed = torch.tensor([torch.initial_seed()], dtype=torch.int64, device=default_device())
    dist.broadcast(seed, dist.get_global_rank(pp_group, 0), group=pp_group)
    with seeded(int(seed) + salt):
        yield


def tag_copies(
    modules: Iterable[nn.Module | None], pp_group: dist.ProcessGroup, is_first: bool
) -> None:
    """Mark for Megatron the parameters that other stages hold, too.

    Args:
        modules: the modules; None is skipped.
        pp_group: the pipeline's process group.
        is_first: whether this is the first stage, whose copy counts in the gradient's norm.
    """
    if pp_group.size() == 1:
        return
    for module in modules:
        for parameter in () if module is None else module.parameters():
            # Attributes that Megatron looks for on a parameter.
            vars(parameter).update(
                pipeline_parallel=True,  # sum the gradient over stages
                shared_embedding=True,  # a bucket of its own: the same shares on all stages
                shared=not is_first,  # count it once in the gradient's norm
            )


def number_copies(state: dict[str, object], prefixes: tuple[str, ...], number: int) -> None:
    """Number a stage's copies in its sharded state, so that the first alone is written.

    Args:
        state: the stage's sharded state.
        prefixes: prefixes of the names of what all stages hold.
        number: number of the stage, virtual stages included; 0 is the first.
    """
    for name, entry in state.items():
        if name.startswith(prefixes) and isinstance(entry, ShardedTensor | ShardedObject):
            assert isinstance(entry.replica_id, tuple)
            entry.replica_id = (number, *entry.replica_id[1:])
