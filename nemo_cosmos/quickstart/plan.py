"""The quickstart as a person would type it: seven parts, each a few command lines.

Nothing here does the work; the commands do. So what the quickstart shows can be repeated, changed
and continued by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_cosmos.quickstart.settings import QuickstartSettings

CommandLine = list[str]

PROMPTS = {
    "reach": "A robot arm reaches for the red block on a wooden table.",
    "lift": "A robot arm picks up the green block and lifts it from a wooden table.",
    "move": "A robot arm moves its gripper left above a wooden table.",
}
"""Prompts for videos from words alone; the names are those of the files."""

FREE_CAPTION = "A robot arm moves around freely above a wooden table."

TOLD = ("left", "right", "up", "down")
"""Directions in which the robot is told to move from one and the same frame."""


TEXT_LENGTH = 32
"""Tokens of a caption; the longest here has 21."""


@dataclass(frozen=True)
class Part:
    """One part of the road.

    Attributes:
        name: of its record.
        title: what a person reads.
        commands: what stands after ``nemo-cosmos``, in order.
    """

    name: str
    title: str
    commands: Sequence[CommandLine]


class Layout:
    """Where everything lies in the workspace.

    Args:
        root: the quickstart's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.robot = root / "raw" / "robot"
        self.real = root / "raw" / "real"
        self.held_out = root / "raw" / "held_out"
        self.robot_shards = root / "shards" / "robot"
        self.real_shards = root / "shards" / "real"
        self.robot_latents = root / "latents" / "robot"
        self.real_latents = root / "latents" / "real"
        self.tokenizer = root / "tokenizer"
        self.world = root / "world"
        self.action_world = root / "action_world"
        self.truth = root / "videos" / "truth"
        self.starts = root / "videos" / "starts"
        self.true_actions = root / "videos" / "true_actions"
        self.told_actions = root / "videos" / "told_actions"
        self.metrics = root / "metrics"
        self.report = root / "report.html"

    def export(self, run: Path) -> Path:
        """The folder that a training run leaves for inference."""
        return run / "export"

    def videos(self, kind: str) -> Path:
        """Generated videos of one kind: prompt, frame, actions, other_actions or told."""
        return self.root / "videos" / kind


def plan(layout: Layout, settings: QuickstartSettings) -> list[Part]:
    """The training parts of the road, up to the two world models."""
    return [
        Part("simulate", "Render robot episodes", _simulate(layout, settings)),
        Part("curate", "Curate them, and real video, into shards", _curate(layout)),
        Part("tokenizer", "Train a video tokenizer", _tokenizer(layout, settings)),
        Part("tokenize", "Encode the shards into latents", _tokenize(layout, settings)),
        Part("world", "Pre-train a world model", _world(layout, settings)),
        Part("action", "Post-train it on the robot's actions", _action(layout, settings)),
    ]


def _simulate(layout: Layout, settings: QuickstartSettings) -> list[CommandLine]:
    def simulate(folder: Path, num_episodes: int, seed: int) -> CommandLine:
        return [
            *("simulate", str(folder)),
            *("--episodes", str(num_episodes)),
            *("--frames", str(settings.num_episode_frames)),
            *("--fps", str(settings.fps)),
            *("--size", settings.size),
            *("--seed", str(seed)),
            *("--workers", str(settings.workers)),
        ]

    return [
        simulate(layout.robot, settings.num_episodes, settings.seed),
        simulate(layout.held_out, settings.num_held_out, settings.seed + 1),
    ]


def _curate(layout: Layout) -> list[CommandLine]:
    # Episodes are whole as they are and the table does not move, so that neither cuts nor the
    # motion filter, which looks at the whole picture, have anything to do there; and as all of them
    # show the same table, neither have the stages that compare and sort clips.
    whole = ["--split", "none", "--min-clip-s", "1", "--min-motion", "0", "--min-patch-motion", "0"]
    whole += ["--skip", "all"]
    return [
        ["curate", str(layout.robot), str(layout.robot_shards), *whole],
        ["curate", str(layout.real), str(layout.real_shards), "--split", "shot"],
    ]


def _tokenizer(layout: Layout, settings: QuickstartSettings) -> list[CommandLine]:
    return [
        [
            *("pretrain", "--factory", "tokenizer_nano_cv4x8x8"),
            f"data.path=[{layout.robot_shards},{layout.real_shards}]",
            f"data.size=[{settings.height},{settings.width}]",
            f"data.num_frames={settings.window_frames}",
            f"trainer.max_steps={settings.tokenizer_steps}",
            *_run_folder(layout.tokenizer),
        ]
    ]


def _tokenize(layout: Layout, settings: QuickstartSettings) -> list[CommandLine]:
    folders = [
        (layout.robot_shards, layout.robot_latents),
        (layout.real_shards, layout.real_latents),
    ]
    return [
        [
            *("tokenize", str(shards), str(latents)),
            *("--tokenizer", str(layout.export(layout.tokenizer))),
            *("--window-frames", str(settings.window_frames)),
            *("--window-stride", str(settings.window_stride)),
            *("--size", settings.size),
            *("--text-encoder", "embedded"),
            *("--text-length", str(TEXT_LENGTH)),
        ]
        for shards, latents in folders
    ]


def _world(layout: Layout, settings: QuickstartSettings) -> list[CommandLine]:
    return [
        [
            *("pretrain", "--factory", "diffusion_nano_video2world"),
            f"data.path=[{layout.robot_latents},{layout.real_latents}]",
            *_diffusion_keys(settings.world_steps),
            *_run_folder(layout.world),
        ]
    ]


def _action(layout: Layout, settings: QuickstartSettings) -> list[CommandLine]:
    return [
        [
            *("finetune", "--factory", "diffusion_nano_action"),
            *("--from", str(layout.export(layout.world))),
            f"data.path={layout.robot_latents}",
            *_diffusion_keys(settings.action_steps),
            *_run_folder(layout.action_world),
        ]
    ]


def _diffusion_keys(num_steps: int) -> list[str]:
    # No sample is told more than its first latent frame, as none is asked for more.
    given = "model.process.conditioning.max_condition_latents=1"
    return [f"trainer.max_steps={num_steps}", f"data.text_length={TEXT_LENGTH}", given]


def _run_folder(folder: Path) -> list[str]:
    return [f"log.log_dir={folder.parent}", f"log.name={folder.name}"]


def generation_commands(
    layout: Layout, settings: QuickstartSettings, captions: Mapping[str, str]
) -> list[CommandLine]:
    """Video from words, from a first frame, and from actions.

    Args:
        layout: of the workspace.
        settings: of the quickstart.
        captions: of the held-out episodes, by their keys.
    """
    keys = list(captions)
    lines = [_generate(layout, settings, name, prompt) for name, prompt in PROMPTS.items()]
    for key, other in zip(keys, [*keys[1:], *keys[:1]], strict=True):
        start, words = layout.starts / f"{key}.png", captions[key]
        own, others = (layout.true_actions / f"{each}.npy" for each in (key, other))
        for kind, actions in (("frame", None), ("actions", own), ("other_actions", others)):
            out = layout.videos(kind) / f"{key}.mp4"
            lines.append(_predict(layout, settings, start, words, out, actions))
    start = layout.starts / f"{keys[0]}.png"
    for direction in TOLD:
        out = layout.videos("told") / f"{direction}.mp4"
        actions = layout.told_actions / f"{direction}.npy"
        lines.append(_predict(layout, settings, start, FREE_CAPTION, out, actions))
    return lines


def _generate(layout: Layout, settings: QuickstartSettings, name: str, prompt: str) -> CommandLine:
    return [
        *("generate", str(layout.export(layout.world)), "--prompt", prompt),
        *("--out", str(layout.videos("prompt") / f"{name}.mp4")),
        *("--guidance", str(settings.guidance), "--fps", str(settings.fps)),
        *_sampling(settings),
    ]


def _predict(
    layout: Layout,
    settings: QuickstartSettings,
    start: Path,
    prompt: str,
    out: Path,
    actions: Path | None,
) -> CommandLine:
    model = layout.world if actions is None else layout.action_world
    told = ["--actions", str(actions)] if actions else []
    return [
        *("predict", str(layout.export(model))),
        *("--input", str(start), "--prompt", prompt, "--out", str(out)),
        *("--guidance", "0"),  # the frame, or the actions, say it all
        *_sampling(settings),
        *told,
    ]


def _sampling(settings: QuickstartSettings) -> list[str]:
    return ["--steps", str(settings.sampling_steps), "--seed", str(settings.seed)]


def evaluation_commands(layout: Layout) -> list[CommandLine]:
    """Compare each kind of prediction with what happened; the given first frame is left out."""
    return [
        [
            *("evaluate", str(layout.videos(kind)), str(layout.truth)),
            *("--skip-frames", "1", "--out", str(layout.metrics / kind)),
        ]
        for kind in ("actions", "other_actions", "frame")
    ]
