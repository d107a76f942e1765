"""Does a model of a camera go where it is told? The whole road, from no data to the figure.

    python benchmarks/camera.py outputs/camera --from outputs/quickstart/tokenizer/export

Films paths through one painted room, trains a tokenizer on them (from the quickstart's, or from
nothing), a base that is told nothing and a model that is told the camera's path, and puts both on
trial on paths that no training clip takes. Finished parts are kept: the same command goes on where
it was stopped. Prints each command as it runs it, and one JSON line with the scores, what each part
took, and what the same measurement says of the recorded videos, of those that went through the
tokenizer, and of the first frame alone, turned as the path says, without any network. Writes
``picture.png``: held-out paths and what was made of them.

Documented in docs/cameras.md; the figures are in docs/results.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from road import Line, durations, parser_of, run_lines, walk

from nemo_cosmos.controls import CAMERA, read_signal
from nemo_cosmos.evaluation.record import read_record
from nemo_cosmos.quickstart.runner import Step
from nemo_cosmos.video import Video, decode, encode_video

METRICS = (
    *("--metric", "aligned_success"),
    *("--metric", "aligned_rotation_error_deg"),
    *("--metric", "aligned_position_error_cm"),
    *("--metric", "psnr"),
)
SHAPE = ("--frames", "17", "--size", "64x96", "--scene", "rooms")
NUM_TEXT = 32
CHANGE = "model.process.conditioning.predicts_change=true"
# All of the training is spent where one sampling step works: at much noise.
NOISE = ("model.process.edm.p_mean=3.0", "model.process.edm.p_std=1.2")
CONTROL = "model.controls.0.options={unit_m: 1, frequencies: 4, carries_first_frame: true}"
SHOWN = 4
"""Held-out paths in the picture."""


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

    def steer(start: str) -> Line:
        words = ["finetune", "--factory", "diffusion_nano_camera", "--from", start, CHANGE, *NOISE]
        quiet = "trainer.callbacks.Obedience.every_n_steps=0"
        return [*words, f"data.path={at('latents')}", *batch, CONTROL, quiet]

    given = ["finetune", "--from", options.tokenizer] if options.tokenizer else ["pretrain"]
    return {
        "simulate": [
            simulate("rooms", options.clips, 1),
            simulate("held_out", options.held_out, 2),
        ],
        "shard": [["dataset", "shard", at("rooms"), at("shards")]],
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
            [*steer(at("base/export")), *run("camera_first", options.camera_steps)],
            # Once more at half the rate, which begins where the first run has ended.
            [*steer(at("camera_first/export")), "optim.config.lr=7e-4",
             *run("camera", options.last_steps)],
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


def turn_first_frames(root: Path) -> Mapping[str, object]:
    """Write the held-out paths as their first frames alone would show them, in ``turned``."""
    # Only here, since they import torch.
    import torch

    from post_training.camera.plucker import carried, first_frame_places, relative_poses

    for file in sorted((root / "held_out").glob("*.mp4")):
        video = decode(file)
        path = CAMERA.batch(read_signal(file.with_suffix(".camera.npz")), 0, video.num_frames)
        poses, lenses, size = (
            torch.from_numpy(path[f"camera_{name}"])[None]
            for name in ("poses", "intrinsics", "size")
        )
        grid = video.frames_THWC.shape[1:3]
        places = first_frame_places(relative_poses(poses), lenses, size, (grid[0], grid[1]))
        first_1CHW = torch.from_numpy(video.frames_THWC[:1]).permute(0, 3, 1, 2).float()
        frames_THWC = carried(first_1CHW, places)[0].permute(1, 2, 3, 0).round().byte().numpy()
        target = root / "turned" / file.name
        target.parent.mkdir(exist_ok=True)
        encode_video(target, Video(frames_THWC, fps=video.fps), crf=1)
        record = file.with_suffix(".json")
        target.with_suffix(".json").write_bytes(record.read_bytes())
    return {}


def draw(root: Path) -> Mapping[str, object]:
    """Draw paths from above beside recorded frames, those of the model, and those of the base."""
    from matplotlib.figure import Figure

    rows = {"recorded": root / "held_out", "told its path": root / "trial/videos/own"}
    rows["told nothing"] = root / "trial_base/videos/own"
    figure = Figure(figsize=(11, 1.75 * SHOWN), layout="constrained")
    grid = figure.add_gridspec(SHOWN, 2, width_ratios=[1, 5])
    for number, file in enumerate(sorted((root / "held_out").glob("*.mp4"))[:SHOWN]):
        axes = figure.add_subplot(grid[number, 0])
        poses_T44 = np.asarray(read_signal(file.with_suffix(".camera.npz"))["poses"])
        seen_T44 = np.linalg.inv(poses_T44[0]) @ poses_T44
        (x_T, z_T), (right_T, ahead_T) = seen_T44[:, [0, 2], 3].T, seen_T44[:, [0, 2], 2].T
        axes.plot(x_T, z_T, color="0.6")
        axes.quiver(x_T[::4], z_T[::4], right_T[::4], ahead_T[::4], range(5), scale=4, width=0.02)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xticks=[], yticks=[])
        strips = [
            np.concatenate(list(decode(folder / file.name).frames_THWC[[0, 4, 8, 12, 16]]), axis=1)
            for folder in rows.values()
        ]
        axes = figure.add_subplot(grid[number, 1])
        axes.imshow(np.concatenate(strips), interpolation="nearest", aspect="auto")
        height = strips[0].shape[0]
        axes.set_yticks([height * (row + 0.5) for row in range(len(rows))], list(rows), fontsize=7)
        axes.set_xticks([])
    figure.savefig(root / "picture.png", dpi=80)
    return {}


def scores(root: Path) -> dict[str, dict[str, object]]:
    """The scores of all trials: value, interval and number of clips."""
    found: dict[str, dict[str, object]] = {}
    for folder in ("trial", "trial_base", "trial_turned", "floor", "floor_rebuilt"):
        found[folder] = {
            name: {"value": one.value, "interval": [one.low, one.high], "n": one.num}
            for name, one in read_record(root / folder).scores.items()
        }
    return found


def main() -> None:
    """Walk the road and print the figures."""
    numbers = {
        **{"room": 5, "clips": 800, "held-out": 24, "tokenizer-steps": 400, "base-steps": 150},
        **{"camera-steps": 900, "last-steps": 400, "batch": 8, "patch": 4, "width": 320},
        **{"heads": 10, "sampling-steps": 1},
    }
    parser = parser_of(__doc__, numbers)
    parser.add_argument("--paint", default="clouds", help="patterns or clouds")
    options = parser.parse_args()
    out: Path = options.out
    line = ["evaluate", str(out / "turned"), str(out / "held_out"), *METRICS]
    lines = [[*line, "--out", str(out / "trial_turned")]]
    records = walk(
        out,
        parts(out, options),
        Step("turned", "turned", {}, partial(turn_first_frames, out)),
        Step("trial_turned", "trial_turned", {"commands": lines}, partial(run_lines, lines)),
        Step("picture", "picture", {}, partial(draw, out)),
    )
    print(json.dumps({"scores": scores(out), **durations(records)}))


if __name__ == "__main__":
    main()
