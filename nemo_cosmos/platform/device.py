"""Which device this process computes on, and in which precision.

Nothing outside this package asks whether there is a GPU: it asks these functions.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:  # torch takes seconds to import; the command line imports this package for --help
    import torch

T = TypeVar("T")
Mark: TypeAlias = "float | torch.cuda.Event"
"""A moment: of the clock in seconds, or of a GPU's queue."""


def has_cuda() -> bool:
    """Whether a CUDA device can be used by this process."""
    import torch

    return torch.cuda.is_available()


def default_device() -> torch.device:
    """The device that models and batches live on: the current CUDA device, else the CPU."""
    import torch

    return torch.device("cuda", torch.cuda.current_device()) if has_cuda() else torch.device("cpu")


def hide_gpus() -> None:
    """Hide the GPUs, which others share, from this process, before its first use of CUDA."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def in_worker_process() -> bool:
    """Whether this process was started by another Python process, as the readers of a loader are.

    A forked one can never use CUDA once its parent has, and any other would hold a CUDA context of
    its own, some 500 MB of the GPU.
    """
    return multiprocessing.parent_process() is not None


def by_device(cpu: T, cuda: T, device: torch.device | None = None) -> T:
    """What is best on a CPU, or on a CUDA device.

    Args:
        cpu: the choice for a CPU.
        cuda: the choice for a CUDA device.
        device: the device in question; the default device where None.
    """
    on_cpu = not has_cuda() if device is None else device.type == "cpu"
    return cpu if on_cpu else cuda


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on a device, without a wait for what that device has to do.

    A copy from pageable memory waits; one from pinned memory takes its place in the queue. Use it
    for tensors that a step makes on the host; a loader pins its batches itself.
    """
    if device == tensor.device:
        return tensor
    pinned = tensor.pin_memory() if has_cuda() else tensor
    return pinned.to(device, non_blocking=True)


def mark() -> Mark:
    """A moment of the device's work: on a GPU in its queue, without a wait."""
    import torch

    if not has_cuda():
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(first: Mark, second: Mark) -> float:
    """The time between two moments, once the device has reached the second."""
    if isinstance(first, float) or isinstance(second, float):
        return float(second) - float(first)  # type: ignore[arg-type]  # two of a kind
    second.synchronize()
    return float(first.elapsed_time(second)) / 1e3


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch uses one core: the last bits of some products depend on how many."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_bytes() -> int:
    """Memory of the default device: of the GPU, or of this machine."""
    import torch

    if has_cuda():
        return int(torch.cuda.get_device_properties(default_device()).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def release_memory() -> None:
    """Give memory that nothing refers to any more back to the device."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # does nothing where no GPU was used


def compute_capability() -> tuple[int, int] | None:
    """CUDA compute capability of the default device; ``None`` without a GPU."""
    import torch

    return torch.cuda.get_device_capability() if has_cuda() else None


def collective_backend() -> str:
    """The ``torch.distributed`` backend that fits the default device: ``nccl`` or ``gloo``."""
    return "nccl" if has_cuda() else "gloo"


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The compute type of a Lightning precision name, or ``None`` where nothing is cast.

    Args:
        precision: ``"32"``, ``"32-true"``, ``"bf16-mixed"``, ``"bf16-true"`` or ``"16-mixed"``.
    """
    import torch

    name = str(precision)
    if name.startswith("bf16"):
        return torch.bfloat16
    return torch.float16 if name.startswith("16") else None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, random numbers follow from ``seed``; after it they continue as before."""
    import torch

    devices = [default_device()] if has_cuda() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def autocast(dtype: torch.dtype | None) -> torch.autocast:
    """A context that computes matrix products in ``dtype`` on the default device.

    ``None`` gives a context that changes nothing, so that a caller needs no branch.
    """
    import torch

    return torch.autocast(default_device().type, dtype=dtype, enabled=dtype is not None)
