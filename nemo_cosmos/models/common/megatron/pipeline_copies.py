"""What all stages of a pipeline hold a copy of.

A stage needs more than the tokens of the stage before: noise level, position, text and control. It
computes them itself from the batch, which every stage reads. Sending them would cost more: their
size grows with the video, while the modules that make them are small. So every stage has these
modules, and they have to be one:

- they start from the same weights (:func:`same_on_all_stages`);
- Megatron adds up their gradients over the stages, counts their norm once, and cuts the distributed
  optimiser's shares of them alike on all stages (:func:`tag_copies`);
- a checkpoint holds them once (:func:`number_copies`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.mapping import ShardedObject, ShardedTensor
from torch import nn

from nemo_cosmos.platform import default_device, seeded


@contextmanager
def same_on_all_stages(pp_group: Any, salt: int = 0) -> Iterator[None]:
    """Within the block, every stage draws the same random numbers; others go on as if it were not.

    Args:
        pp_group: the pipeline's process group. Alone, a stage draws as it always does.
        salt: a different number for each block, so that blocks do not draw the same.
    """
    if pp_group.size() == 1:
        yield
        return
    seed = torch.tensor([torch.initial_seed()], dtype=torch.int64, device=default_device())
    dist.broadcast(seed, dist.get_global_rank(pp_group, 0), group=pp_group)
    with seeded(int(seed) + salt):
        yield


def tag_copies(modules: Iterable[nn.Module | None], pp_group: Any, is_first: bool) -> None:
    """Tell Megatron which parameters other stages hold, too.

    Args:
        modules: whose parameters they are.
        pp_group: the pipeline's process group.
        is_first: whether this is the first stage, whose copy counts in the gradient's norm.
    """
    if pp_group.size() == 1:
        return
    for module in modules:
        for parameter in () if module is None else module.parameters():
            tags: Any = parameter
            tags.pipeline_parallel = True  # sum the gradient over stages
            tags.shared_embedding = True  # a bucket of its own: the same shares on all stages
            tags.shared = not is_first


def number_copies(state: dict[str, Any], prefixes: tuple[str, ...], number: int) -> None:
    """Number a stage's copies in its sharded state, so that the first alone is written.

    Args:
        state: what ``sharded_state_dict`` gave.
        prefixes: of the names of what all stages hold.
        number: of the stage, counted with the virtual ones; 0 is the first.
    """
    for name, entry in state.items():
        if name.startswith(prefixes) and isinstance(entry, ShardedTensor | ShardedObject):
            assert isinstance(entry.replica_id, tuple)
            entry.replica_id = (number, *entry.replica_id[1:])
