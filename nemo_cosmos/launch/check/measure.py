"""Speeds of this rank and of the exchange with others."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from nemo_cosmos.platform.device import default_device, has_cuda

#: A matrix product of this width, and a sum of so many bytes: large enough that starting one does
#: not count, and a second on a CPU.
GPU_WIDTH, CPU_WIDTH = 8192, 768
GPU_BYTES, CPU_BYTES = 2**28, 2**22
WARM_UP, REPEATS = 2, 5


def product_speed() -> float:
    """Return the TFLOP/s of a matrix product: in bfloat16 on a GPU, in float32 on a CPU."""
    device = default_device()
    width = GPU_WIDTH if has_cuda() else CPU_WIDTH
    dtype = torch.bfloat16 if has_cuda() else torch.float32
    one = torch.randn(width, width, device=device, dtype=dtype)
    return 2 * width**3 / _seconds(lambda: one @ one) / 1e12


def exchange_speed(group: dist.ProcessGroup | None = None) -> float:
    """Return the bus bandwidth of a sum, in GB/s a rank, as NCCL's own tests count it.

    Args:
        group: the ranks; all where None. Each of them calls this.
    """
    num_bytes = GPU_BYTES if has_cuda() else CPU_BYTES
    size = dist.get_world_size(group)
    values = torch.ones(num_bytes // 4, device=default_device())
    seconds = _seconds(lambda: dist.all_reduce(values, group=group), group)
    return num_bytes * 2 * (size - 1) / size / seconds / 1e9


def exchange_latency_us() -> float:
    """Return the time of a sum of one number over all ranks, in microseconds."""
    value = torch.ones(1, device=default_device())
    return _seconds(lambda: dist.all_reduce(value)) * 1e6


def ranks_of_machines(hosts: list[str]) -> list[list[int]]:
    """Return the ranks of each machine.

    Args:
        hosts: the machine of each rank.
    """
    return [
        [rank for rank, each in enumerate(hosts) if each == host] for host in dict.fromkeys(hosts)
    ]


def machine_name() -> str:
    """Return a name of this machine: where several are one, as daemons of a test, the place's."""
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def _seconds(work: Callable[[], object], group: dist.ProcessGroup | None = None) -> float:
    """The middle time of some calls."""
    times = []
    for turn in range(WARM_UP + REPEATS):
        _wait(group)
        begun = time.perf_counter()
        work()
        _wait(None, together=False)
        if turn >= WARM_UP:
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _wait(group: dist.ProcessGroup | None, together: bool = True) -> None:
    """Wait for the GPU, and for the other ranks, so that a late one is not counted as slow."""
    if has_cuda():
        torch.cuda.synchronize()
    if together and dist.is_initialized():
        dist.barrier(group)
