"""Whether a launcher started this process as one of several, and as which. Imports nothing heavy.

Clusters and containers leave ``WORLD_SIZE``, ``RANK``, ``MASTER_ADDR`` and Slurm's variables in the
environment of processes that nobody launched as ranks: a login shell, that of ``salloc``, a
notebook, a pod. Such a process is alone, whatever those say.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

TORCHRUN_VARIABLES = ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and launchers like it set for each process; fewer of them are a leftover."""

RANK_VARIABLES = (
    *TORCHRUN_VARIABLES,
    "RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "OMPI_COMM_WORLD_RANK",
)
"""Where torch, Lightning and NeMo look for the number of this process."""


def is_torchrun_rank() -> bool:
    """Whether torchrun, or a launcher that sets the same variables, started this process."""
    return all(os.environ.get(name) for name in TORCHRUN_VARIABLES)


def is_srun_rank() -> bool:
    """Whether srun started this process as one of several.

    The shell that ``salloc`` opens has a ``SLURM_PROCID``, too, but as the only task of its step.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    return "SLURM_PROCID" in os.environ and tasks.isdecimal() and int(tasks) > 1


def is_rank() -> bool:
    """Whether a launcher started this process as one of several."""
    return is_torchrun_rank() or is_srun_rank()


def num_processes() -> int:
    """Processes of this run: those that torchrun started, or one."""
    return int(os.environ["WORLD_SIZE"]) if is_torchrun_rank() else 1


def num_local_processes() -> int:
    """Processes of this run on this machine, as far as the launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_torchrun_rank() else 1


def launched_layout(devices: int, num_nodes: int) -> tuple[int, int]:
    """Processes of each machine, and machines, as the launcher started them.

    Args:
        devices: processes of each machine where no launcher started this process.
        num_nodes: machines where no launcher started this process.
    """
    if not is_torchrun_rank():
        return devices, num_nodes
    per_node = num_local_processes()
    return per_node, max(num_processes() // per_node, 1)


def is_first_process() -> bool:
    """Whether this rank is the one that writes files and prints."""
    if not is_torchrun_rank():
        return True
    # Lightning's launcher numbers the processes of one machine only.
    return os.environ.get("RANK", os.environ["LOCAL_RANK"]) == "0"


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ["LOCAL_RANK"]) if is_torchrun_rank() else 0


def machine_name() -> str:
    """The name of this machine, in the words of the queue that started this process."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


@contextmanager
def alone_unless_launched() -> Iterator[None]:
    """Within the block, hide the variables of ranks from libraries in a process that is none."""
    with nullcontext() if is_rank() else alone():
        yield


@contextmanager
def alone() -> Iterator[None]:
    """Within the block, be a process of its own for all that is called, whoever started it."""
    left_over = {name: os.environ.pop(name) for name in RANK_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(left_over)
