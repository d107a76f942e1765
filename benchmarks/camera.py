"""Does a model of a camera go where it is told? The whole road, from no data to the figure.

    python benchmarks/camera.py outputs/camera --from outputs/quickstart/tokenizer/export

Films paths through one painted room, trains a tokenizer on them (from the quickstart's, or from
nothing), a base that is told nothing and a model that is told the camera's path, and puts both on
trial on paths that no training clip takes. Finished parts are kept: the same command goes on where
it was stopped. Prints each command as it runs it, and one JSON line with the scores, what each part
took, and the floor: what the same measurement says of the recorded videos and of those that went
through the tokenizer.

Documented in docs/cameras.md; the figures are in docs/results.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from road import Line, durations, parser_of, walk

from nemo_cosmos.evaluation.record import read_record

METRICS = (
    *("--metric", "aligned_success"),
    *("--metric", "aligned_rotation_error_deg"),
    *("--metric", "aligned_position_error_cm"),
    *("--metric", "psnr"),
)
SHAPE = ("--frames", "17", "--size", "64x96", "--scene", "rooms")
NUM_TEXT = 32


def parts(root: Path, options: argparse.Namespace) -> dict[str, list[Line]]:
    """The commands of each part, as words after ``nemo-cosmos``."""
    room = ("--room", str(options.room), "--paint", options.paint, "--workers", "2")
    batch = [f"data.micro_batch_size={options.batch}", f"data.global_batch_size={options.batch}"]

    def at(name: str) -> str:
        return str(root / name)

    def run(name: str, steps: int) -> Line:
        return [f"trainer.max_steps={steps}", f"log.log_dir={root}", f"log.name={name}"]

    def simulate(name: str, episodes: int, seed: int) -> Line:
        number = ("--episodes", str(episodes), "--seed", str(seed))
        return ["simulate", at(name), *SHAPE, *number, *room]

    def trial(model: str, name: str) -> Line:
        sampling = ("--option", f"steps={options.sampling_steps}", "--option", "guidance=0")
        words = ["evaluate", "--model", at(f"{model}/export"), "--data", at("held_out"), *sampling]
        return [*words, *METRICS, "--out", at(name)]

    given = ["finetune", "--from", options.tokenizer] if options.tokenizer else ["pretrain"]
    return {
        "simulate": [
            simulate("rooms", options.clips, 1),
            simulate("held_out", options.held_out, 2),
        ],
        "curate": [
            ["curate", at("rooms"), at("shards"), "--split", "none", "--min-clip-s", "1",
             "--min-motion", "0", "--min-patch-motion", "0", "--skip", "all",
             "--catalogue", at("catalogue.db")],
        ],
        "tokenizer": [
            [*given, "--factory", "tokenizer_nano_cv4x8x8", f"data.path={at('shards')}",
             "data.size=[64,96]", "data.num_frames=17", "optim.config.lr=5e-4",
             *run("tokenizer", options.tokenizer_steps)],
        ],
        "tokenize": [
            ["tokenize", at("shards"), at("latents"), "--tokenizer", at("tokenizer/export"),
             "--window-frames", "17", "--size", "64x96", "--text-encoder", "embedded",
             "--text-length", str(NUM_TEXT)],
        ],
        "base": [
            ["pretrain", "--factory", "diffusion_nano_video2world", f"data.path={at('latents')}",
             f"data.text_length={NUM_TEXT}", f"model.config.patch_spatial={options.patch}",
             f"model.config.hidden_size={options.width}",
             f"model.config.num_attention_heads={options.heads}",
             "model.process.conditioning.max_condition_latents=1", *batch,
             *run("base", options.base_steps)],
        ],
        "camera": [
            ["finetune", "--factory", "diffusion_nano_camera", "--from", at("base/export"),
             f"data.path={at('latents')}", *batch, "trainer.callbacks.Obedience.every_n_steps=0",
             "model.controls.0.options={unit_m: 1, frequencies: 4}",
             *run("camera", options.camera_steps)],
        ],
        "trial": [trial("camera", "trial"), trial("base", "trial_base")],
        "floor": [
            ["evaluate", at("held_out"), at("held_out"), *METRICS, "--out", at("floor")],
            ["evaluate", "--tokenizer", at("tokenizer/export"), "--data", at("held_out"),
             "--metric", "psnr", "--out", at("rebuilt")],
            ["evaluate", at("rebuilt/videos/reconstruction"), at("held_out"), *METRICS,
             "--out", at("floor_rebuilt")],
        ],
    }  # fmt: skip


def scores(root: Path) -> dict[str, dict[str, object]]:
    """The scores of all trials: value, interval and number of clips."""
    found: dict[str, dict[str, object]] = {}
    for folder in ("trial", "trial_base", "floor", "floor_rebuilt"):
        found[folder] = {
            name: {"value": one.value, "interval": [one.low, one.high], "n": one.num}
            for name, one in read_record(root / folder).scores.items()
        }
    return found


def main() -> None:
    """Walk the road and print the figures."""
    numbers = {
        **{"room": 5, "clips": 800, "held-out": 32, "tokenizer-steps": 400, "base-steps": 150},
        **{"camera-steps": 1600, "batch": 8, "patch": 4, "width": 320, "heads": 10},
        "sampling-steps": 12,
    }
    parser = parser_of(__doc__, numbers)
    parser.add_argument("--paint", default="clouds", help="patterns or clouds")
    options = parser.parse_args()
    records = walk(options.out, parts(options.out, options))
    print(json.dumps({"scores": scores(options.out), **durations(records)}))


if __name__ == "__main__":
    main()
