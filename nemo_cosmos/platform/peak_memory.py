"""The largest memory that a piece of work held, on the host and on a GPU."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from nemo_cosmos.platform.device import has_cuda

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): the peak of the resident set starts again


@dataclass
class PeakMemory:
    """What :func:`peak_memory` found, once its block has ended.

    Attributes:
        host_bytes: largest resident set of this process; since the process began where the system
            cannot measure a shorter time (elsewhere than Linux).
        device_bytes: most that PyTorch's allocator held on the current GPU; 0 without one.
    """

    host_bytes: int = 0
    device_bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Measure the block. Blocks inside each other would reset each other's peaks."""
    found = PeakMemory()
    with suppress(OSError):  # then it is the peak since the process began
        _RESET.write_text(_RESET_PEAK, encoding="ascii")
    if has_cuda():
        torch.cuda.reset_peak_memory_stats()
    try:
        yield found
    finally:
        found.host_bytes = _host_peak_bytes()
        if has_cuda():
            found.device_bytes = torch.cuda.max_memory_allocated()


def _host_peak_bytes() -> int:
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
