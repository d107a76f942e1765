"""What real robot episodes teach: a world post-trained on 4, 7 and 10 of Bridge's.

    python benchmarks/bridge.py --data data/bridge --base outputs/quickstart --out outputs/bridge

Takes a Bridge folder as it is shipped (``annotation`` and ``videos``; 10 episodes to train on and 5
held out by its own split) and the tokenizer and action world of a quickstart, and runs the commands
that a user would: convert, curate, post-train the tokenizer on the training episodes, tokenize with
mirrored and cropped copies, post-train the world on the first 4, 7 and all 10 episodes, and put
each on trial on the held-out ones, cut into windows that do not overlap. All learn how their first
frame changes (``predicts_change``), in the end where noise hides all of it, and make a video in one
step: what is to be expected, and not one of the videos that could be. A run that was stopped goes
on. Prints one JSON line a world:
PSNR and its gain over the first frame repeated, and the sensitivity to actions, as means over the
held-out episodes with intervals over episodes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from nemo_cosmos.evaluation import choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.evaluation.obedience import OTHER
from nemo_cosmos.evaluation.statistics import mean_score, paired_difference
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference.trial.run import evaluate_world
from nemo_cosmos.inference.trial.videos import Trial
from nemo_cosmos.video import Video, decode
from post_training.robotics.episodes import read_episode, write_files

PARTS = (4, 3, 3)
"""Episodes of each part of the training set; a world is trained on the first one, two or three."""

SCORES = ("psnr", "action_sensitivity", "action_sensitivity_psnr")


@dataclass(frozen=True)
class Settings:
    """Sizes and steps."""

    size: str = "96x128"
    window_frames: int = 13
    tokenizer_steps: int = 250
    world_steps: int = 350
    high_noise_steps: int = 400
    sampling_steps: int = 1


def command(*words: object) -> None:
    """Run one command line of the toolkit."""
    print("nemo-cosmos", *words, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "nemo_cosmos", *map(str, words)], check=True)


def prepare(data: Path, out: Path, settings: Settings) -> list[Path]:
    """Convert and curate; return the shards of each part of the training set."""
    episodes = out / "episodes"
    command("convert", "bridge", data, episodes, "--size", settings.size)
    cut_windows(episodes, out / "held_out", settings.window_frames)
    stems = sorted(file.stem for file in episodes.glob("bridge_train_*.mp4"))
    shards = []
    for number, last in enumerate(np.cumsum(PARTS)):
        part = out / f"part_{number}"
        part.mkdir(parents=True, exist_ok=True)
        for stem in stems[last - PARTS[number] : last]:
            for file in episodes.glob(f"{stem}.*"):
                shutil.copyfile(file, part / file.name)
        shards.append(out / f"shards_{number}")
        whole = ("--split", "none", "--min-clip-s", 1, "--min-motion", 0, "--min-patch-motion", 0)
        own = ("--skip", "all", "--catalogue", out / "catalogue.db")
        command("curate", part, shards[-1], *whole, *own)
    return shards


def cut_windows(episodes: Path, folder: Path, num_frames: int) -> None:
    """Cut the held-out episodes into windows, each a recording of its own."""
    for file in sorted(episodes.glob("bridge_val_*.mp4")):
        episode = read_episode(episodes, file.stem)
        for first in range(0, episode.video.num_frames - num_frames + 1, num_frames):
            last = first + num_frames
            video = Video(episode.video.frames_THWC[first:last], episode.video.fps)
            arrays = {
                "action.npy": episode.actions[first : last - 1],
                "state.npy": episode.states[first:last],
            }
            record = {**episode.describe(), "num_frames": num_frames}
            write_files(folder, f"{file.stem}-at{first:03d}", video, arrays, record)


def learn(
    base: Path, out: Path, shards: Sequence[Path], settings: Settings
) -> Iterator[tuple[int, Path]]:
    """Post-train tokenizer and worlds; yield each world with its number of episodes."""
    tokenizer, paths = out / "tokenizer", ",".join(map(str, shards))
    command(
        *("finetune", "--factory", "tokenizer_nano_cv4x8x8"),
        *("--from", base / "tokenizer" / "export", f"data.path=[{paths}]"),
        f"data.num_frames={settings.window_frames}",
        f"trainer.max_steps={settings.tokenizer_steps}",
        *(f"log.log_dir={out}", "log.name=tokenizer"),
    )
    latents = []
    for number, shard in enumerate(shards):
        latents.append(out / f"latents_{number}")
        command(
            *("tokenize", shard, latents[-1], "--tokenizer", tokenizer / "export"),
            *("--window-frames", settings.window_frames, "--window-stride", 2),
            *("--size", settings.size, "--text-length", 32),
            *("--variants", 2, "--flip", 0.5, "--crop", 0.1),
        )
    for number in range(len(PARTS), 0, -1):
        total, first = sum(PARTS[:number]), base / "action_world"
        given = f"data.path=[{','.join(map(str, latents[:number]))}]"
        world = post_train(first, out / f"world_{total}", given, settings.world_steps)
        if settings.high_noise_steps:
            noise = ("model.process.edm.p_mean=3.0", "model.process.edm.p_std=1.2")
            name = out / f"world_{total}_expected"
            world = post_train(world, name, given, settings.high_noise_steps, *noise)
        yield total, world


def post_train(first: Path, world: Path, given: str, num_steps: int, *more: str) -> Path:
    """Post-train a world further; return the new one."""
    command(
        *("finetune", "--factory", "diffusion_nano_action", "--from", first / "export"),
        *("--allow-mismatch", "tokenizer"),  # it has been post-trained since
        *(given, f"trainer.max_steps={num_steps}", *more),
        "model.process.conditioning.predicts_change=true",
        *(f"log.log_dir={world.parent}", f"log.name={world.name}"),
    )
    return world


def by_episode(values: dict[str, float]) -> dict[str, float]:
    """The mean over the windows of each episode."""
    found = defaultdict(list)
    for name, value in values.items():
        found[name.partition("-")[0]].append(value)
    return {name: float(np.mean(each)) for name, each in found.items()}


def still_psnr(held_out: Path) -> dict[str, float]:
    """PSNR of the first frame repeated, in dB, by window."""
    cases = []
    for file in sorted(held_out.glob("*.mp4")):
        frames_THWC = decode(file).frames_THWC
        still_THWC = np.repeat(frames_THWC[:1], len(frames_THWC) - 1, axis=0)
        cases.append(Case(file.stem, still_THWC, frames_THWC[1:]))
    clips = evaluate_cases(cases, choose_metrics(("psnr",))).clips
    return {name: clip.scores["psnr"] for name, clip in clips.items()}


def try_world(world: Path, out: Path, settings: Settings) -> dict[str, dict[str, float]]:
    """Put a world on trial; return its scores by score and episode."""
    options = {"steps": settings.sampling_steps, "guidance": 0.0, "fps": 5.0}
    options["num_frames"] = settings.window_frames
    tried = Trial(("psnr", "motion_following"), told=(OTHER,), options=options)
    evaluation, _ = evaluate_world(
        world / "export",
        out / "held_out",
        tried,
        guards=no_guards,
        out=out / "trials" / world.name,
    )
    clips = evaluation.clips.items()
    return {one: by_episode({key: clip.scores[one] for key, clip in clips}) for one in SCORES}


def no_guards() -> GuardPolicy:
    """None: they look at what people ask for, and nobody asked for these."""
    return GuardPolicy.default(disabled=[guard.name for guard in GuardPolicy.default().guards])


def main() -> None:
    """Train, try and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=Path("outputs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("outputs/bridge"))
    parser.add_argument("--steps", type=int, default=Settings.world_steps)
    parser.add_argument("--tokenizer-steps", type=int, default=Settings.tokenizer_steps)
    parser.add_argument("--high-noise-steps", type=int, default=Settings.high_noise_steps)
    parser.add_argument("--sampling-steps", type=int, default=Settings.sampling_steps)
    given = parser.parse_args()
    settings = Settings(
        world_steps=given.steps,
        tokenizer_steps=given.tokenizer_steps,
        high_noise_steps=given.high_noise_steps,
        sampling_steps=given.sampling_steps,
    )
    shards = prepare(given.data, given.out, settings)
    still = by_episode(still_psnr(given.out / "held_out"))
    for total, world in learn(given.base, given.out, shards, settings):
        found = try_world(world, given.out, settings)
        first = [still[key] for key in found["psnr"]]
        gain = paired_difference(list(found["psnr"].values()), first)
        line = {score: str(mean_score(list(each.values()))) for score, each in found.items()}
        line |= {"over the first frame, dB": str(gain), "first frame, dB": str(mean_score(first))}
        print(json.dumps({"episodes": total, **line}), flush=True)


if __name__ == "__main__":
    main()
