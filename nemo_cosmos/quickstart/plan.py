"""The quickstart as a person would type it: parts of the road, each a few command lines.

The commands do the work, not this file, so whatever the quickstart shows can be repeated, changed
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

DIRECTIONS = ("left", "right", "up", "down")
"""Directions in which the robot moves, all from the same first frame."""


TEXT_LENGTH = 32
"""Tokens of a caption; the longest here has 21."""


@dataclass(frozen=True)
class Part:
    """One part of the road.

    Attributes:
        name: the name of its record.
        title: the title that a person reads.
        commands: the words after ``nemo-cosmos``, in order.
    """

    name: str
    title: str
    commands: Sequence[CommandLine]


class Places:
    """Paths in the workspace.

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
        self.direction_actions = root / "videos" / "direction_actions"
        self.metrics = root / "metrics"
        self.report = root / "report.html"

    def export(self, run: Path) -> Path:
        """The folder that a training run leaves for inference."""
        return run / "export"

    def videos(self, kind: str) -> Path:
        """Generated videos of one kind: prompt, frame, actions, other_actions or directions."""
        return self.root / "videos" / kind


def plan(places: Places, settings: QuickstartSettings) -> list[Part]:
    """The training parts of the road, up to the two world models."""
    return [
        Part("simulate", "Render robot episodes", _simulate(places, settings)),
        Part("curate", "Curate them, and real video, into shards", _curate(places)),
        Part("tokenizer", "Train a video tokenizer", _tokenizer(places, settings)),
        Part("tokenize", "Encode the shards into latents", _tokenize(places, settings)),
        Part("world", "Pre-train a world model", _world(places, settings)),
        Part("action", "Post-train it on the robot's actions", _action(places, settings)),
    ]


def _simulate(places: Places, settings: QuickstartSettings) -> list[CommandLine]:
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
        simulate(places.robot, settings.num_episodes, settings.seed),
        simulate(places.held_out, settings.num_held_out, settings.seed + 1),
    ]


def _curate(places: Places) -> list[CommandLine]:
    # Each episode is one shot in front of a still table: there is nothing to cut, the motion
    # filter, which looks at the whole picture, would reject it, and stages that compare or sort
    # clips would find all episodes alike.
    whole = ["--split", "none", "--min-clip-s", "1", "--min-motion", "0", "--min-patch-motion", "0"]
    whole += ["--skip", "all"]
    own = ["--catalogue", str(places.root / "catalogue.db")]
    return [
        ["curate", str(places.robot), str(places.robot_shards), *whole, *own],
        ["curate", str(places.real), str(places.real_shards), "--split", "shot", *own],
    ]


def _tokenizer(places: Places, settings: QuickstartSettings) -> list[CommandLine]:
    return [
        [
            *("pretrain", "--factory", "tokenizer_nano_cv4x8x8"),
            f"data.path=[{places.robot_shards},{places.real_shards}]",
            f"data.size=[{settings.height},{settings.width}]",
            f"data.num_frames={settings.window_frames}",
            f"trainer.max_steps={settings.tokenizer_steps}",
            *_run_folder(places.tokenizer),
        ]
    ]


def _tokenize(places: Places, settings: QuickstartSettings) -> list[CommandLine]:
    folders = [
        (places.robot_shards, places.robot_latents),
        (places.real_shards, places.real_latents),
    ]
    return [
        [
            *("tokenize", str(shards), str(latents)),
            *("--tokenizer", str(places.export(places.tokenizer))),
            *("--window-frames", str(settings.window_frames)),
            *("--window-stride", str(settings.window_stride)),
            *("--size", settings.size),
            *("--text-encoder", "embedded"),
            *("--text-length", str(TEXT_LENGTH)),
        ]
        for shards, latents in folders
    ]


def _world(places: Places, settings: QuickstartSettings) -> list[CommandLine]:
    return [
        [
            *("pretrain", "--factory", "diffusion_nano_video2world"),
            f"data.path=[{places.robot_latents},{places.real_latents}]",
            f"data.text_length={TEXT_LENGTH}",
            f"model.config.patch_spatial={settings.world_patch}",
            f"model.config.hidden_size={settings.world_width}",
            f"model.config.num_attention_heads={settings.world_heads}",
            # Generation starts from one given frame, so training gives no more than one latent.
            "model.process.conditioning.max_condition_latents=1",
            f"trainer.max_steps={settings.world_steps}",
            *_run_folder(places.world),
        ]
    ]


def _action(places: Places, settings: QuickstartSettings) -> list[CommandLine]:
    # Network, process and text length come from the weights.
    return [
        [
            *("finetune", "--factory", "diffusion_nano_action"),
            *("--from", str(places.export(places.world))),
            f"data.path={places.robot_latents}",
            f"trainer.max_steps={settings.action_steps}",
            *_run_folder(places.action_world),
        ]
    ]


def _run_folder(folder: Path) -> list[str]:
    return [f"log.log_dir={folder.parent}", f"log.name={folder.name}"]


def generation_commands(
    places: Places, settings: QuickstartSettings, captions: Mapping[str, str]
) -> list[CommandLine]:
    """Video from words, from a first frame, and from actions.

    Args:
        places: the workspace's paths.
        settings: the quickstart's numbers.
        captions: captions of the held-out episodes by key.
    """
    keys = list(captions)
    lines = [_generate(places, settings, name, prompt) for name, prompt in PROMPTS.items()]
    for key, other in zip(keys, [*keys[1:], *keys[:1]], strict=True):
        start, words = places.starts / f"{key}.png", captions[key]
        own, others = (places.true_actions / f"{each}.npy" for each in (key, other))
        for kind, actions in (("frame", None), ("actions", own), ("other_actions", others)):
            out = places.videos(kind) / f"{key}.mp4"
            lines.append(_predict(places, settings, start, words, out, actions))
    start = places.starts / f"{keys[0]}.png"
    for direction in DIRECTIONS:
        out = places.videos("directions") / f"{direction}.mp4"
        actions = places.direction_actions / f"{direction}.npy"
        lines.append(_predict(places, settings, start, FREE_CAPTION, out, actions))
    return lines


def _generate(places: Places, settings: QuickstartSettings, name: str, prompt: str) -> CommandLine:
    return [
        *("generate", str(places.export(places.world)), "--prompt", prompt),
        *("--out", str(places.videos("prompt") / f"{name}.mp4")),
        *("--guidance", str(settings.guidance), "--fps", str(settings.fps)),
        *_sampling(settings),
    ]


def _predict(
    places: Places,
    settings: QuickstartSettings,
    start: Path,
    prompt: str,
    out: Path,
    actions: Path | None,
) -> CommandLine:
    model = places.world if actions is None else places.action_world
    controls = ["--actions", str(actions)] if actions else []
    return [
        *("predict", str(places.export(model))),
        *("--input", str(start), "--prompt", prompt, "--out", str(out)),
        *("--guidance", "0"),  # the frame and the actions determine the video
        *_sampling(settings),
        *controls,
    ]


def _sampling(settings: QuickstartSettings) -> list[str]:
    return ["--steps", str(settings.sampling_steps), "--seed", str(settings.seed)]


def evaluation_commands(places: Places) -> list[CommandLine]:
    """Compare each kind of prediction with the ground truth, without the given first frame."""
    return [
        [
            *("evaluate", str(places.videos(kind)), str(places.truth)),
            *("--skip-frames", "1", "--out", str(places.metrics / kind)),
        ]
        for kind in ("actions", "other_actions", "frame")
    ]
