"""Train the toy on as many ranks as were started, while a fault waits: a program for torchrun.

    python elastic_training.py FOLDER {steady,hang,slow}

``steady``: every step takes a while. ``hang``: the last rank stops for ever in step 3, the first
time. ``slow``: the last rank takes longer than others. Every step is recorded in
``FOLDER/record.jsonl``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import torch

TOY = Path(__file__).parents[1] / "unit" / "training" / "toy.py"
MAX_STEPS, SAVE_EVERY, DELAY_S, GLOBAL_BATCH = 12, 2, 0.25, 4


class Record(pl.Callback):
    """Writes the step, the number of ranks and the loss."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer, *_) -> None:
        # Of this rank's samples; Megatron-Core divides it by their number before the toy sees it.
        loss = trainer.callback_metrics["reduced_train_loss"] * GLOBAL_BATCH / trainer.world_size
        torch.distributed.all_reduce(loss)
        if trainer.is_global_zero:
            loss = float(loss) / trainer.world_size
            line = {"step": trainer.global_step, "ranks": trainer.world_size, "loss": loss}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def load_toy():
    spec = importlib.util.spec_from_file_location("toy", TOY)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module
    spec.loader.exec_module(module)
    return module


def arguments(folder: Path, kind: str, delay_s: float = DELAY_S) -> dict[str, object]:
    toy = load_toy()
    from nemo import lightning as nl

    from nemo_cosmos.training.resilience.settings import Resilience

    is_last = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1

    class Model(toy.ToyModel):
        """Without noise, which each rank draws for itself."""

        def forward_step(self, batch):
            time.sleep(delay_s)
            hangs = kind == "hang" and is_last and self.trainer.global_step == 2
            if hangs and not (hung := folder / "hung").exists():
                hung.touch()
                time.sleep(3600)
            if kind == "slow" and is_last:
                time.sleep(0.2)
            return (self(batch["x"]).float() - batch["x"].roll(1, -1)).square().mean()

    class Data(toy.ToyData):
        def __init__(self) -> None:
            super().__init__()
            self.data_sampler = nl.MegatronDataSampler(
                seq_len=1, micro_batch_size=1, global_batch_size=GLOBAL_BATCH
            )

    settings = Resilience(
        elastic=True, check_machine=False, slow_rank_every_n_steps=4,
        hang_minutes=0.2 if kind == "hang" else 30,
    )  # fmt: skip
    made = toy.arguments(folder, MAX_STEPS, save_every=SAVE_EVERY, ema=False, resilience=settings)
    made["trainer"].callbacks.insert(0, Record(folder / "record.jsonl"))
    return made | {"model": Model(), "data": Data()}


def main(folder: Path, kind: str) -> None:
    from nemo_cosmos import api
    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    api.pretrain(**arguments(folder, kind))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
