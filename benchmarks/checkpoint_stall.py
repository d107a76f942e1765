"""The time that training loses to an asynchronous save against a synchronous one.

A world model trains through :func:`nemo_cosmos.api.pretrain` on random latents, once with each kind
of save in every round, in alternating order. A save costs what its window, from its step to the
step before the next save, takes longer than as many steps before the first save; a background
writer that slows the steps after a save is so counted too. ``blocked`` is the step of the save
alone. The first save of a run, which starts the writer, is left out. Pairs are the saves of the two
runs by number; the figure is the median of the paired ratios (above 1: the asynchronous save costs
less). The trained weights of both must be the same bits. Prints one JSON line.

    python benchmarks/checkpoint_stall.py [--rounds 2] [--saves 6] [--width 320] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import lightning.pytorch as pl  # noqa: E402
import torch  # noqa: E402
from megatron.core.optimizer import OptimizerConfig  # noqa: E402
from nemo import lightning as nl  # noqa: E402
from nemo.lightning.io.mixin import IOMixin  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from nemo_cosmos import api  # noqa: E402
from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent  # noqa: E402
from nemo_cosmos.data.modules import LatentDataModule  # noqa: E402
from nemo_cosmos.data.schema import ClipRecord  # noqa: E402
from nemo_cosmos.data.shards.writer import ShardWriter  # noqa: E402
from nemo_cosmos.models.diffusion.model import DiffusionModel  # noqa: E402
from nemo_cosmos.models.diffusion.network.config import DiTConfig  # noqa: E402
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork  # noqa: E402
from nemo_cosmos.models.tokenizer.presets import tokenizer_config  # noqa: E402
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer  # noqa: E402
from nemo_cosmos.training.callbacks.ema import EMA  # noqa: E402
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint  # noqa: E402
from nemo_cosmos.training.logger import RunLogger  # noqa: E402
from nemo_cosmos.training.run_folder import list_checkpoints  # noqa: E402
from nemo_cosmos.training.strategy import WorldStrategy  # noqa: E402
from nemo_cosmos.training.trainer import WorldTrainer  # noqa: E402

SAVE_EVERY, NUM_WARM_UP = 10, 3
TEXT_DIM, NUM_CLIPS = 64, 64
LATENT = (16, 3, 16, 16)  # channels, frames, rows, columns: 192 tokens
NUM_LAYERS = 6


class StepTimes(pl.Callback, IOMixin):
    """When each step began and the last one ended, with whatever the trainer did between them."""

    def __init__(self) -> None:
        self.began_s: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Look at the clock."""
        self.began_s.append(time.perf_counter())


def write_data(folder: Path) -> None:
    """Random latents with random text embeddings, as ``nemo-cosmos tokenize`` writes them."""
    tokenizer = folder.parent / "tokenizer"
    VideoTokenizer(TokenizerNetwork(tokenizer_config("tokenizer_nano_cv4x8x8"))).save(tokenizer)
    _, frames, rows, columns = LATENT
    num_frames, height, width = 1 + 4 * (frames - 1), 8 * rows, 8 * columns
    generator = torch.Generator().manual_seed(0)
    with ShardWriter(folder) as writer:
        for number in range(NUM_CLIPS):
            record = ClipRecord(
                key=f"clip-{number}",
                source="film.mp4",
                span_s=(0.0, num_frames / 10),
                fps=10.0,
                num_frames=num_frames,
                width=width,
                height=height,
                caption="a red cube",
            )
            files = {
                "latent.safetensors": pack_latent(torch.randn(LATENT, generator=generator)),
                "t5.safetensors": pack_embedding(torch.randn(8, TEXT_DIM, generator=generator)),
            }
            writer.add(record, files)
    content = {
        "tokenizer": str(tokenizer),
        "text_encoder": {"kind": "words", "path": None, "max_length": 8, "dim": TEXT_DIM},
        "window": {"window_frames": num_frames, "size": [height, width]},
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def train(data: Path, runs: Path, width: int, num_saves: int, in_background: bool) -> list[float]:
    """Train one run into ``runs / "run"``; returns the seconds of every step."""
    config = DiTConfig(
        num_layers=NUM_LAYERS,
        hidden_size=width,
        num_attention_heads=width // 64,
        crossattn_emb_channels=TEXT_DIM,
        adaln_lora_dim=64,
        max_frames=4,
        max_height=32,
        max_width=32,
    )
    adam = OptimizerConfig(optimizer="adam", lr=1e-4, use_distributed_optimizer=True, clip_grad=1.0)
    times = StepTimes()
    api.pretrain(
        DiffusionModel(config, optim=nl.MegatronOptimizerModule(adam), preset="benchmark"),
        LatentDataModule(str(data), micro_batch_size=1, global_batch_size=1, text_length=8),
        WorldTrainer(
            max_steps=SAVE_EVERY * (num_saves + 1) + 1,
            callbacks=[EMA(decay=0.99), times],
            strategy=WorldStrategy(ckpt_async_save=in_background),
        ),
        RunLogger(
            name="run",
            log_dir=str(runs),
            tensorboard_enabled=False,
            ckpt=StepCheckpoint(every_n_train_steps=SAVE_EVERY),
        ),
    )
    return [end - start for start, end in pairwise(times.began_s)]


def save_costs(steps_s: list[float], num_saves: int) -> list[tuple[float, float]]:
    """Seconds that each save but the first costs: in its whole window, and in its own step."""
    undisturbed_s = statistics.median(steps_s[NUM_WARM_UP : SAVE_EVERY - 1])
    costs = []
    for number in range(2, num_saves + 1):
        first = number * SAVE_EVERY - 1  # the step that ends with the save
        window = steps_s[first : first + SAVE_EVERY]
        costs.append((sum(window) - SAVE_EVERY * undisturbed_s, window[0] - undisturbed_s))
    return costs


def run_round(data: Path, runs: Path, width: int, num_saves: int, order: tuple[bool, bool]) -> Any:
    """Train with both kinds of save; returns costs by kind, the step time and checkpoint bytes."""
    costs, weights, step_s, num_bytes = {}, {}, 0.0, 0
    for in_background in order:
        shutil.rmtree(runs, ignore_errors=True)
        steps_s = train(data, runs, width, num_saves, in_background)
        costs[in_background] = save_costs(steps_s, num_saves)
        step_s = statistics.median(steps_s[NUM_WARM_UP : SAVE_EVERY - 1])
        weights[in_background] = load_file(runs / "run" / "export" / "model.safetensors")
        newest = list_checkpoints(runs / "run")[-1][0]
        num_bytes = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    for name, tensor in weights[True].items():
        assert torch.equal(tensor, weights[False][name]), name
    return costs, step_s, num_bytes


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--saves", type=int, default=6)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pairs, step_s, num_bytes = [], 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        data, runs = Path(name, "data"), Path(name, "runs")
        write_data(data)
        for number in range(arguments.rounds):
            order = (False, True) if number % 2 else (True, False)
            costs, step_s, num_bytes = run_round(
                data, runs, arguments.width, arguments.saves, order
            )
            pairs += zip(costs[False], costs[True], strict=True)
    ratios = [synchronous[0] / asynchronous[0] for synchronous, asynchronous in pairs]
    result = {"benchmark": "checkpoint_stall", "pairs": len(pairs)}
    for side, kind in enumerate(("synchronous", "asynchronous")):
        for part, what in enumerate(("", "_blocked")):
            cost_s = statistics.median(pair[side][part] for pair in pairs)
            result[f"{kind}{what}_ms"] = round(1e3 * cost_s, 1)
    result |= {
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "blocked_ratio_median": round(
            statistics.median(pair[0][1] / pair[1][1] for pair in pairs), 3
        ),
        "step_ms": round(1e3 * step_s, 1),
        "checkpoint_mb": round(num_bytes / 1e6),
        "threads": torch.get_num_threads(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
