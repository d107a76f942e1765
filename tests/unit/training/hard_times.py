"""Train the toy while something goes wrong: a program for tests that watch a process from outside.

    python hard_times.py FOLDER {plain,full,slow} {sync,async}

``full``: files may not grow beyond a few kilobytes from step 7 on, as on a full disk. ``slow``: the
save of step 8 hangs after its tensors are written and before the checkpoint is complete.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

import lightning.pytorch as pl

sys.path.insert(0, str(Path(__file__).parent))

MAX_STEPS = 9


class Trouble(pl.Callback):
    """Begins with step 7, after the first checkpoint."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on_train_batch_start(self, trainer, *_) -> None:
        if trainer.global_step != 6:
            return
        # The first checkpoint is complete before trouble begins, however slow the writer is.
        finalize = getattr(trainer.strategy.checkpoint_io, "maybe_finalize_save_checkpoint", None)
        if finalize is not None:
            finalize(blocking=True)
        if self.kind == "full":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        elif self.kind == "slow":
            os.fsync = lambda _: time.sleep(600)


def main(folder: str, kind: str, how: str) -> None:
    import toy

    from nemo_cosmos import api

    delay_s = 0.0 if kind == "full" else 0.5
    arguments = toy.arguments(folder, MAX_STEPS, delay_s=delay_s, async_save=how == "async")
    arguments["trainer"].callbacks.append(Trouble(kind))
    api.pretrain(**arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
