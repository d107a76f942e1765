"""What a process does that another one of this machine started to help it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this process when its parent is killed, but not by what a queue tells the parent.

    A process that outlived its parent would write beside the next run.
    """
    leave_queue_to_parent()
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def leave_queue_to_parent() -> None:
    """Ignore the signal by which a queue asks a job to save.

    Slurm sends it to all processes of a job; one that died of it would be a fault of its own.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def end_as_forked() -> None:
    """End this process, once its work is done, at once, as a forked one ends.

    A spawned one takes its interpreter down first. A thread of a native library that hands Python a
    result meanwhile, as obstore's do for a read that is under way, is then ended inside of frames
    that no exception may leave, and the process aborts: "terminate called without an active
    exception".
    """
    # After all other finalizers, which hand over what is in queues.
    multiprocessing.util.Finalize(None, _leave, exitpriority=-100)


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


def _leave() -> None:
    if sys.exc_info()[0] is None:  # else the error is still to be told
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or none
                stream.flush()
        os._exit(0)


def _wait_for_the_end() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
