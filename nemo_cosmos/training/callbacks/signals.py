"""Ctrl-C, SIGTERM and SIGUSR1: save, exit, and let the same command resume later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeAlias

import lightning.pytorch as pl
import torch
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.platform import by_device

PREEMPTION = signal.SIGUSR1
"""What a queue is told to send before the time limit (``sbatch --signal=USR1@300``)."""
STOPPING = (signal.SIGINT, signal.SIGTERM, PREEMPTION)
"""The later in this list, the more it says: after a preemption the queue's SIGTERM adds nothing."""
STEPS_BETWEEN_ON_GPU = 4
"""Some 12 s of a 7B network; Slurm kills 30 s after it has sent SIGTERM unless told otherwise."""
Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None
"""What ``signal.signal`` takes and returns."""


class StoppedError(KeyboardInterrupt):
    """Training stopped on a signal after it saved; the command line prints how to resume."""


class StopOnSignal(pl.Callback, IOMixin):
    """Finish the step, save a checkpoint, and end the loop when a signal asks for it.

    Slurm sends SIGTERM before it ends a job; the run then stays stopped. SIGUSR1 says that the
    machines are asked for, and that the run is to be continued. The ranks agree after every step,
    because a signal may reach only one of them; on GPUs after every fourth, as their answer waits
    for all that the GPU has to do. A second Ctrl-C stops at once.

    Hooks:

    - ``on_train_start``: take the signals over from Lightning, which would exit without a save.
    - ``on_train_batch_end``: if any rank was asked to stop, end the loop; the checkpoint callback
      saves as it does at every end.
    - ``on_train_end``, ``on_exception``: restore the earlier handlers.

    Attributes:
        received: the signal that the ranks stop for, once they have agreed.
        is_preempted: whether that signal asks for the run to be continued.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._asked: int | None = None  # by a signal to this rank
        self._earlier: dict[int, Handler] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handlers; only the main thread can."""
        self.received = self._asked = None
        if threading.current_thread() is threading.main_thread():
            self._earlier = {
                number: signal.signal(number, self._note)
                for number in STOPPING
                if signal.getsignal(number) is not None  # None: a handler that is not Python's
            }

    @property
    def is_preempted(self) -> bool:
        """Whether the ranks stop to be continued."""
        return self.received == PREEMPTION

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Agree with the other ranks and stop the loop."""
        asked = 0 if self._asked is None else STOPPING.index(signal.Signals(self._asked)) + 1
        if trainer.world_size > 1:
            # The ranks count alike, so that all of them exchange or none.
            if trainer.global_step % by_device(1, STEPS_BETWEEN_ON_GPU):
                return
            shared = torch.full((1,), asked, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
            asked = int(shared)
        if asked:
            self.received = STOPPING[asked - 1]
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the earlier handlers."""
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the earlier handlers."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked == signal.SIGINT == number:
            raise KeyboardInterrupt
        if self._asked != PREEMPTION:
            self._asked = number

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}
