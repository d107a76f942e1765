"""The command line, whose training takes long enough to be watched, and to which things happen.

    python watched_training.py pretrain --factory ... KEY=VALUE...

``WATCHED_START_S`` is added before a run's first step, ``WATCHED_DELAY_S`` to every step, whose
number of ranks each rank prints. Where the file that ``WATCHED_HANG`` names is there, rank 1
removes it in its third step, and hangs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def main(words: list[str]) -> None:
    import nemo_cosmos.cli.main as cli

    if words[0] in ("pretrain", "finetune"):
        from nemo_cosmos.platform.quiet import quiet_nemo

        quiet_nemo()
        _watch_steps()
        _start_late()
    cli.main(words)


def _watch_steps() -> None:
    from nemo_cosmos.models.diffusion.model import DiffusionModel

    fetch = DiffusionModel.data_step
    delay_s, hang = float(os.environ["WATCHED_DELAY_S"]), Path(os.environ["WATCHED_HANG"])

    def watched(self, iterator):
        time.sleep(delay_s)
        print(f"step {self.trainer.global_step + 1} on {self.trainer.world_size} ranks", flush=True)
        if self.trainer.global_step == 2 and os.environ.get("RANK") == "1" and hang.is_file():
            hang.unlink()
            time.sleep(3600)
        return fetch(self, iterator)

    DiffusionModel.data_step = watched


def _start_late() -> None:
    from nemo_cosmos.models.diffusion.model import DiffusionModel

    configure = DiffusionModel.configure_model

    def late(self):
        if (start_s := float(os.environ["WATCHED_START_S"])) and self.trainer.is_global_zero:
            print("starts late", flush=True)
        time.sleep(start_s)
        return configure(self)

    DiffusionModel.configure_model = late


if __name__ == "__main__":
    main(sys.argv[1:])
