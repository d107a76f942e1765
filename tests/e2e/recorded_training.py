"""Train the nano recipe at toy size and write down which samples each step saw.

    python recorded_training.py RECORD.jsonl DELAY_S KEY=VALUE...

Under ``torchrun`` each rank appends its own lines to the same record.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main(record: Path, delay_s: float, overrides: list[str]) -> None:
    import fiddle as fdl

    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    from nemo_cosmos.models.diffusion.model import DiffusionModel
    from recipes.overrides import apply_overrides
    from recipes.registry import get_recipe

    fetch = DiffusionModel.data_step

    def recording(self, iterator):
        batch = fetch(self, iterator)
        line = {"step": self.trainer.global_step, "keys": batch["key"]}
        with record.open("a") as handle:
            handle.write(json.dumps(line) + "\n")
        time.sleep(delay_s)
        return batch

    DiffusionModel.data_step = recording
    recipe = apply_overrides(get_recipe("diffusion_nano_text2world", False), overrides)
    fdl.build(recipe)()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
