"""Does a model of three cameras follow a car's path? The whole road, from no data to the figure.

    python benchmarks/driving.py outputs/driving --from outputs/quickstart/tokenizer/export

Films drives through one rendered town with six rigs, trains a tokenizer on them (from the
quickstart's, or from nothing), a base that is told no path and a model that is told one, and puts
it on trial on new drives: of the six rigs, and of a rig whose side cameras look where no camera of
the training did. Finished parts are kept: the same command goes on where it was stopped. Prints
each command as it runs it, one JSON line for each folder of drives (see ``driving_trial.py``), and
one with what each part took.

Documented in docs/driving.md; the figures are in docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from road import Line, durations, parser_of, walk

from nemo_cosmos.quickstart.runner import Step

HERE = Path(__file__).parent
RIGS = HERE / "driving_rigs.yaml"
FOLDERS = {"val": 2, "held_out": 3}
"""Seeds of the drives on trial: of the training's rigs, and of the rig that was held out."""
NUM_FRAMES, NUM_TEXT, SIZE = 9, 32, (64, 96)
NOISY = ("model.process.edm.p_mean=3.0", "model.process.edm.p_std=1.2")


def parts(root: Path, options: argparse.Namespace) -> dict[str, list[Line]]:
    """The commands of each part, as words after ``nemo-cosmos``."""
    height, width = SIZE
    size = f"{height}x{width}"
    rigs = ",".join(f"{RIGS}:spread_{degrees}" for degrees in (24, 31, 38, 54, 61, 68))

    def at(name: str) -> str:
        return str(root / name)

    def batches_of(size: int) -> Line:
        return [f"data.micro_batch_size={size}", f"data.global_batch_size={size}"]

    def run(name: str, steps: int) -> Line:
        return [f"trainer.max_steps={steps}", f"log.log_dir={root}", f"log.name={name}"]

    def simulate(name: str, episodes: int, seed: int, rig: str) -> Line:
        shape = ("--frames", str(NUM_FRAMES), "--fps", "8", "--size", size)
        drives = (
            "--episodes",
            str(episodes),
            "--seed",
            str(seed),
            "--town",
            str(options.town),
        )
        return [
            "simulate",
            at(name),
            "--scene",
            "driving",
            *shape,
            *drives,
            "--rig",
            rig,
        ]

    def follow(name: str, before: str, steps: int, batch: int, *more: str) -> Line:
        return [
            *("finetune", "--factory", "diffusion_nano_multiview_driving"),
            *("--from", at(f"{before}/export"), *learn, *batches_of(batch)),
            "model.process.conditioning.control_dropout=0.15",
            *("trainer.callbacks.Obedience.every_n_steps=0", *more, *run(name, steps)),
        ]

    given = ["finetune", "--from", options.tokenizer] if options.tokenizer else ["pretrain"]
    learn = [
        f"data.path={at('latents')}", f"data.text_length={NUM_TEXT}",
        "model.process.conditioning.max_condition_latents=1",
    ]  # fmt: skip
    of_rig = {"val": rigs, "held_out": f"{RIGS}:held_out"}
    return {
        "simulate": [
            simulate("train", options.drives, 1, rigs),
            *(simulate(name, options.trials, seed, of_rig[name]) for name, seed in FOLDERS.items()),
        ],
        "shard": [["dataset", "shard", at("train"), at("shards")]],
        "tokenizer": [
            [*given, "--factory", "tokenizer_nano_cv4x8x8", f"data.path={at('shards')}",
             f"data.size=[{height},{width}]", f"data.num_frames={NUM_FRAMES}",
             "optim.config.lr=5e-4", *run("tokenizer", options.tokenizer_steps)],
        ],
        "tokenize": [
            ["tokenize", at("shards"), at("latents"), "--tokenizer", at("tokenizer/export"),
             "--window-frames", str(NUM_FRAMES), "--size", size, "--text-length", str(NUM_TEXT)],
        ],
        "base": [
            ["pretrain", "--factory", "diffusion_nano_multiview", *learn,
             *batches_of(options.base_batch),
             f"model.config.patch_spatial={options.patch}",
             f"model.config.hidden_size={options.width}",
             f"model.config.num_attention_heads={options.heads}", *run("base", options.base_steps)],
        ],
        "driving": [follow("driving", "base", options.driving_steps, options.base_batch)],
        # What one denoising step draws depends on the highest noise levels alone.
        "driving2": [follow("driving2", "driving", options.noisy_steps, options.batch, *NOISY)],
        "driving3": [follow("driving3", "driving2", options.last_steps, options.batch, *NOISY)],
    }  # fmt: skip


def put_on_trial(root: Path, options: argparse.Namespace) -> Mapping[str, object]:
    """Score the model on both folders of drives at once, each in a process of its own."""
    words = [
        sys.executable,
        str(HERE / "driving_trial.py"),
        "--out",
        str(root / "trial"),
    ]
    words += [
        "--world",
        str(root / "driving3/export"),
        "--steps",
        str(options.sampling_steps),
    ]
    # Two processes of one thread each: finding a path has no use for more.
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = {
        name: subprocess.Popen(
            [*words, "--drives", str(root / name)],
            env=alone,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in FOLDERS
    }
    printed = {name: process.communicate()[0] for name, process in running.items()}
    for process in running.values():
        if process.returncode:
            sys.exit(process.returncode)
    return {name: json.loads(text) for name, text in printed.items()}


def main() -> None:
    """Walk the road and print the figures."""
    numbers = {
        **{
            "town": 14,
            "drives": 300,
            "trials": 24,
            "tokenizer-steps": 800,
            "base-steps": 120,
        },
        **{
            "base-batch": 16,
            "driving-steps": 600,
            "batch": 8,
            "patch": 4,
            "width": 320,
            "heads": 10,
        },
        "sampling-steps": 1,
    }
    parser = parser_of(__doc__, numbers)
    options = parser.parse_args()
    asked = {"sampling_steps": options.sampling_steps}
    trial = Step("trial", "trial", asked, partial(put_on_trial, options.out, options))
    records = walk(options.out, parts(options.out, options), trial)
    for found in records[-1].figures.values():
        print(json.dumps(found))
    print(json.dumps(durations(records)))


if __name__ == "__main__":
    main()
