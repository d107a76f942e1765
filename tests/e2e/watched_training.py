"""The command line, whose training steps take long enough to be watched, and may hang once.

    python watched_training.py pretrain --factory ... KEY=VALUE...

``WATCHED_DELAY_S`` is added to every step, whose number of ranks is written into the log. Where the
file that ``WATCHED_HANG`` names is there, rank 1 removes it in its third step, and hangs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def main(words: list[str]) -> None:
    import nemo_cosmos.cli.main as cli

    if words[0] in ("pretrain", "finetune"):
        _slow_down(float(os.environ["WATCHED_DELAY_S"]), Path(os.environ.get("WATCHED_HANG", "")))
    cli.main(words)


def _slow_down(delay_s: float, hang: Path) -> None:
    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    from nemo_cosmos.models.diffusion.model import DiffusionModel

    fetch = DiffusionModel.data_step

    def watched(self, iterator):
        time.sleep(delay_s)
        if self.trainer.is_global_zero:
            print(f"step {self.trainer.global_step + 1} on {self.trainer.world_size} ranks")
        if self.trainer.global_step == 2 and os.environ.get("RANK") == "1" and hang.is_file():
            hang.unlink()
            time.sleep(3600)
        return fetch(self, iterator)

    DiffusionModel.data_step = watched


if __name__ == "__main__":
    main(sys.argv[1:])
