"""Collect the results of the road into the report."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo_cosmos.evaluation import psnr
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.quickstart.material import held_out_captions
from nemo_cosmos.quickstart.plan import DIRECTIONS, PROMPTS, Places
from nemo_cosmos.quickstart.report import Exhibit, Report, Section
from nemo_cosmos.quickstart.road import command_texts
from nemo_cosmos.quickstart.runner import Record
from nemo_cosmos.quickstart.settings import QuickstartSettings
from nemo_cosmos.video import decode, frames_to_tensor, tensor_to_frames
from nemo_cosmos.video.pictures import (
    Frames,
    curve_svg,
    film_strip,
    image_uri,
    side_by_side,
    video_uri,
)

NUM_SHOWN = 4
SHOWN_SCALE = 2
CURVES = {"tokenizer": "tokenizer loss", "world": "world model loss", "action_world": "action loss"}
METRIC_NAMES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "psnr_repeat_first": "PSNR of a still first frame, dB",
    "motion_following": "motion following, -1 to 1",
}
KIND_NAMES = {
    "actions": "with the episode's own actions",
    "other_actions": "with another episode's actions",
    "frame": "first frame and words only",
}


def build_report(root: Path, settings: QuickstartSettings, records: Sequence[Record]) -> Report:
    """Make the report's content from the workspace.

    Args:
        root: the quickstart's folder.
        settings: its numbers.
        records: the records of its parts; that of ``evaluate`` holds the mean metrics.
    """
    places = Places(root)
    captions = held_out_captions(places)
    means = next(record.figures for record in records if record.name == "evaluate")
    tokenizer_section, tokenizer_psnr = _tokenizer_section(places, list(captions))
    return Report(
        headline=_headline(records, means, tokenizer_psnr),
        sections=[
            _actions_section(places, captions),
            _directions_section(places),
            _frame_section(places, captions),
            _prompt_section(places),
            tokenizer_section,
            Section(
                "Loss curves",
                "Each point is a logged step; the dark line is their running mean.",
                curves=[_curve(root / run, label) for run, label in CURVES.items()],
            ),
            _metrics_section(means),
            _guards_section(places),
        ],
        records=records,
        commands=command_texts(places, settings, captions),
        machine=f"{torch.get_num_threads()} threads, {platform.machine()}, torch "
        f"{torch.__version__}, {'GPU' if torch.cuda.is_available() else 'no GPU'}",
    )


def _headline(
    records: Sequence[Record], means: Mapping[str, Any], tokenizer_psnr: float
) -> list[tuple[str, str]]:
    total_min = sum(record.duration_s for record in records) / 60
    actions, others = means["actions"], means["other_actions"]
    return [
        (f"{total_min:.1f} min", "from nothing to this page"),
        (f"{tokenizer_psnr:.1f} dB", "tokenizer PSNR on held-out episodes"),
        (f"{actions['psnr']:.1f} dB", "PSNR of predictions with the right actions"),
        (f"{actions['psnr_repeat_first']:.1f} dB", "PSNR of a still first frame, for comparison"),
        (f"{others['psnr']:.1f} dB", "PSNR with another episode's actions"),
        (f"{actions['motion_following']:.2f}", "motion following; 1 = moves exactly as commanded"),
    ]


def _actions_section(places: Places, captions: Mapping[str, str]) -> Section:
    exhibits = [
        _exhibit(
            places,
            f"actions_{key}",
            {
                "ground truth": places.truth / f"{key}.mp4",
                "these actions": places.videos("actions") / f"{key}.mp4",
                "other actions": places.videos("other_actions") / f"{key}.mp4",
            },
            caption,
        )
        for key, caption in list(captions.items())[:NUM_SHOWN]
    ]
    return Section(
        "Steered by actions",
        "The model sees the first frame of an episode that it was not trained on, and 16 robot "
        "actions of seven numbers each. The middle video should do what the left one does; the "
        "right one starts from the same frame but follows the next episode's actions.",
        exhibits,
    )


def _directions_section(places: Places) -> Section:
    videos = {
        direction: places.videos("directions") / f"{direction}.mp4" for direction in DIRECTIONS
    }
    return Section(
        "One frame, four commands",
        "From the same first frame the gripper is commanded to move left, right, up and down at "
        "constant speed.",
        [_exhibit(places, "directions", videos, "the same first frame, four different actions")],
    )


def _frame_section(places: Places, captions: Mapping[str, str]) -> Section:
    exhibits = [
        _exhibit(
            places,
            f"frame_{key}",
            {
                "ground truth": places.truth / f"{key}.mp4",
                "predicted": places.videos("frame") / f"{key}.mp4",
            },
            caption,
        )
        for key, caption in list(captions.items())[:NUM_SHOWN]
    ]
    return Section(
        "From a first frame and words",
        "The pre-trained model continues a first frame. It does not know where exactly the arm "
        "goes, so it need not agree with the ground truth.",
        exhibits,
    )


def _prompt_section(places: Places) -> Section:
    exhibits = [
        _exhibit(
            places,
            f"prompt_{name}",
            {"generated": places.videos("prompt") / f"{name}.mp4"},
            f"“{prompt}”",
        )
        for name, prompt in PROMPTS.items()
    ]
    return Section(
        "From words alone",
        "The pre-trained model generates a scene from noise and a prompt. A few minutes of "
        "training teach it the robot and the table; it mostly ignores details of the sentence.",
        exhibits,
    )


def _tokenizer_section(places: Places, keys: Sequence[str]) -> tuple[Section, float]:
    """Reconstructions, and their mean PSNR in dB."""
    tokenizer = VideoTokenizer.from_folder(places.export(places.tokenizer))
    exhibits: list[Exhibit] = []
    scores: list[float] = []
    for key in keys:
        truth = decode(places.truth / f"{key}.mp4")
        with torch.no_grad():
            latents = tokenizer.encode(frames_to_tensor(truth.frames_THWC)[None])
            restored = tensor_to_frames(tokenizer.decode(latents)[0])
        scores.append(psnr(restored, truth.frames_THWC))
        if not exhibits:
            shown = {"ground truth": truth.frames_THWC, "through the tokenizer": restored}
            caption = f"{latents[0].numel():,} numbers for {truth.frames_THWC.size:,}"
            exhibits.append(_exhibit_of(places, "tokenizer", shown, truth.fps, caption))
    text = (
        "The world model works on latents of this tokenizer, so no generated video can be "
        "sharper than its reconstructions."
    )
    return Section("The tokenizer", text, exhibits), float(np.mean(scores))


def _metrics_section(means: Mapping[str, Any]) -> Section:
    header = ["prediction", *METRIC_NAMES.values()]
    rows = [
        [text, *(f"{means[kind][name]:.2f}" for name in METRIC_NAMES)]
        for kind, text in KIND_NAMES.items()
    ]
    return Section(
        "Metrics on held-out episodes",
        "Means over the held-out episodes, without the given first frame. Motion following is the "
        "agreement of the moving pixels' displacement with that of the ground truth.",
        table=[header, *rows],
    )


def _guards_section(places: Places) -> Section:
    """Verdicts of the guards on each video made from words."""
    rows = [["video", "guard", "allowed", "reason"]]
    for name in PROMPTS:
        record = json.loads((places.videos("prompt") / f"{name}.json").read_text(encoding="utf-8"))
        rows += [
            [name, verdict["guard"], "yes" if verdict["allowed"] else "no", verdict["reason"]]
            for verdict in record["guards"]
        ]
    return Section(
        "Guards",
        "Every prompt and video passed these guards; a provenance file lies beside each video.",
        table=rows,
    )


def _exhibit(places: Places, name: str, files: Mapping[str, Path], caption: str) -> Exhibit:
    videos = {label: decode(path) for label, path in files.items()}
    fps = next(iter(videos.values())).fps
    frames = {label: video.frames_THWC for label, video in videos.items()}
    return _exhibit_of(places, name, frames, fps, caption)


def _exhibit_of(
    places: Places, name: str, frames: Mapping[str, Frames], fps: float, caption: str
) -> Exhibit:
    shown = side_by_side(frames, SHOWN_SCALE)
    strip = np.concatenate([film_strip(video) for video in frames.values()])
    uri = video_uri(shown, fps, places.root / "report_videos" / f"{name}.mp4")
    return Exhibit(caption, uri, image_uri(strip), width_px=shown.shape[2])


def _curve(run: Path, label: str) -> str:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line) for line in lines]
    return curve_svg([(line["step"], line["loss"]) for line in logged if line.get("loss")], label)
