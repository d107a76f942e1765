"""What a process does that another one of this machine started to help it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this process when its parent is killed: it must not write beside the next run."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def take_share_of_machine(rank: int, num_processes: int) -> None:
    """Let this process be one of several that compute on one machine.

    It takes its part of the cores, and its own GPU where there are several.

    Args:
        rank: its number.
        num_processes: how many there are.
    """
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())


def _wait_for_the_end() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
