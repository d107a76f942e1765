"""Megatron's process groups for a process that no trainer has set up.

Inference, tests and benchmarks build Megatron modules without NeMo. They need torch.distributed,
Megatron's parallel state and its random number tracker; :func:`ensure_model_parallel` makes all
three once. One process needs no port: it keeps its rendezvous in memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from nemo_cosmos.errors import ConfigError, NemoCosmosError
from nemo_cosmos.platform.cpu_backend import install_cpu_backend
from nemo_cosmos.platform.device import collective_backend, has_cuda
from nemo_cosmos.platform.ranks import local_rank, num_processes

if TYPE_CHECKING:
    from megatron.core.process_groups_config import ProcessGroupCollection
    from torch.distributed.distributed_c10d import Store

ResultT = TypeVar("ResultT")

#: The launcher's store with the place where it is served, and how many sets of groups it has held.
_served: tuple[tuple[str | None, str | None], Store] | None = None
_num_stores = 0


def ensure_model_parallel(tp: int = 1, pp: int = 1, cp: int = 1, *, seed: int = 1234) -> None:
    """Set up model parallelism unless that is done already.

    Under ``torchrun`` the groups span its processes; otherwise they hold this one process. Safe to
    call often.

    Args:
        tp: tensor-parallel size.
        pp: pipeline-parallel size.
        cp: context-parallel size.
        seed: seed of Megatron's tracker of random number states.

    Raises:
        ConfigError: the sizes do not divide the number of processes, or model parallelism was set
            up before with other sizes.
    """
    import torch
    import torch.distributed as dist

    install_cpu_backend()
    from megatron.core import parallel_state, tensor_parallel

    if not dist.is_initialized():
        _init_process_group()
    if parallel_state.model_parallel_is_initialized():
        _check_sizes(tp, pp, cp)
        return
    world_size = dist.get_world_size()
    if world_size % (tp * pp * cp):
        raise ConfigError(
            f"Model parallelism of tp={tp} x pp={pp} x cp={cp} does not divide the {world_size} "
            "processes of this run. Start a multiple of that many processes, or lower the sizes."
        )
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=tp,
        pipeline_model_parallel_size=pp,
        context_parallel_size=cp,
    )
    torch.manual_seed(seed)
    tensor_parallel.model_parallel_cuda_manual_seed(seed)


def divisors(number: int) -> list[int]:
    """Return the numbers of ranks that can share ``number`` things equally, rising."""
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)})


def on_first_process(function: Callable[[], ResultT]) -> ResultT:
    """Call a function on the first rank alone, and return its result, or raise its error, on all.

    Args:
        function: work that must happen only once, such as asking a guard that keeps a log.

    Raises:
        NemoCosmosError: raised on the other ranks, with the message of the first rank's error.
    """
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return function()
    if dist.get_rank() == 0:
        try:
            done = function()
        except Exception as error:
            dist.broadcast_object_list([None, str(error)], src=0)
            raise
        dist.broadcast_object_list([done, None], src=0)
        return done
    outcome: list[Any] = [None, None]
    dist.broadcast_object_list(outcome, src=0)
    result, message = outcome
    if message is not None:
        raise NemoCosmosError(message)
    given: ResultT = result
    return given


def shutdown_model_parallel() -> None:
    """Undo :func:`ensure_model_parallel`; does nothing where nothing was set up."""
    import torch.distributed as dist
    from megatron.core import parallel_state

    parallel_state.destroy_model_parallel()
    if dist.is_initialized():
        dist.destroy_process_group()


class _OneProcess:
    """A process group of one process, for modules that are built but never run."""

    def size(self) -> int:
        return 1

    def rank(self) -> int:
        return 0


def single_process_groups() -> ProcessGroupCollection:
    """Process groups for building a whole, unsharded module whatever this process's groups are.

    Such a module can be inspected, counted or given weights; it cannot communicate.
    """
    from megatron.core.process_groups_config import ProcessGroupCollection

    return ProcessGroupCollection(tp=_OneProcess(), cp=_OneProcess(), pp=_OneProcess())


def fresh_store() -> Store | None:
    """Return a store in which the ranks of this run meet to make their process groups.

    Groups leave their addresses in it, where those that come later would find them: after a check
    of weights that made groups and destroyed them, or in the processes that torchrun starts again
    beside the same store. So each call has names of its own, and each start of the processes; all
    ranks make their groups in the same order. The launcher's store below it stays open: where the
    first rank serves it, another one might still meet the former server.

    Returns:
        the store; None for a process alone.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    global _served, _num_stores
    if num_processes() == 1:
        return None
    place = (os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT"))
    if _served is None or _served[0] != place:
        store, _, _ = next(rendezvous("env://"))
        _served, _num_stores = (place, store), 0
    _num_stores += 1
    # torchrun counts no restart with other machines, but these are more or fewer.
    start = f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}_of_{num_processes()}"
    return PrefixStore(f"{start}/groups_{_num_stores}", _served[1])


def _init_process_group() -> None:
    import torch
    import torch.distributed as dist

    if num_processes() > 1:
        if has_cuda():
            torch.cuda.set_device(local_rank())
        rank, size = int(os.environ["RANK"]), num_processes()
        dist.init_process_group(
            collective_backend(), store=fresh_store(), rank=rank, world_size=size
        )
        return
    store = dist.HashStore()  # type: ignore[attr-defined]  # in memory: one process needs no port
    dist.init_process_group(collective_backend(), store=store, rank=0, world_size=1)


def _check_sizes(tp: int, pp: int, cp: int) -> None:
    from megatron.core import parallel_state

    have = (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_pipeline_model_parallel_world_size(),
        parallel_state.get_context_parallel_world_size(),
    )
    if have != (tp, pp, cp):
        raise ConfigError(
            f"Model parallelism is set up with tp={have[0]}, pp={have[1]}, cp={have[2]}, but "
            f"tp={tp}, pp={pp}, cp={cp} is requested. Call shutdown_model_parallel() first, or "
            "request the same sizes."
        )
