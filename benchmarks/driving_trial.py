"""Does a model of several cameras follow a car's path, and do its views show one world?

    python benchmarks/driving_trial.py --world WORLD --drives val held_out --steps 1

Generates each recorded drive of a folder (``nemo-cosmos simulate --scene driving``) from the first
frames of its cameras: told its own path, told another drive's, told none (as training with
``control_dropout`` hides it), and one camera at a time. The path of each video is found by direct
alignment of the front camera (the metrics ``aligned_position_error_cm`` and
``aligned_rotation_error_deg``), which never looks at what the model was told. The recorded video,
as it is and after the tokenizer, says how exactly that works; drives whose recorded video gives no
path are left out and counted. Prints one JSON line a folder; ``--out`` also leaves a page with all
scores and videos for each, and a picture.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from nemo_cosmos.aliases import Array
from nemo_cosmos.checkpoint.world.folder import World, load_world
from nemo_cosmos.controls import RIG, read_signal
from nemo_cosmos.controls.registry import TRAJECTORY
from nemo_cosmos.evaluation import choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.cases import CaseScores
from nemo_cosmos.evaluation.metric import Case, MeasuredMetric, Metric
from nemo_cosmos.evaluation.page.shown import Shown
from nemo_cosmos.evaluation.record import make_record
from nemo_cosmos.evaluation.report import write_report
from nemo_cosmos.evaluation.scoring import summarise
from nemo_cosmos.evaluation.statistics import mean_score, paired_difference
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.common.generator import Shot
from nemo_cosmos.models.common.text import load_text_encoder
from nemo_cosmos.models.diffusion.controls import ControlEmbedding, mask_embedding
from nemo_cosmos.models.diffusion.options import DiffusionOptions
from nemo_cosmos.video import Video, decode, encode_video, frames_to_tensor
from nemo_cosmos.video.tensors import tensor_to_frames
from post_training.driving.agreement import view_differences

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]
Views = Mapping[str, Frames]

METRICS = ("aligned_position_error_cm", "aligned_rotation_error_deg", "aligned_success", "psnr")
DIFFERENCE = MeasuredMetric(
    name="views_differ",
    unit="grey levels",
    higher_is_better=False,
    description="what two views differ by where they show the same point",
)
RECORDED, OWN, NONE = "recorded", "own path", "no path"


@dataclass(frozen=True)
class Recorded:
    """A drive on disk."""

    key: str
    caption: str
    fps: float
    views: dict[str, Frames]
    signals: dict[str, dict[str, Array]]
    cameras: dict[str, dict[str, Array]]
    depths: dict[str, Array]


def read_drive(folder: Path, key: str) -> Recorded:
    """Read a drive with all that its metrics need."""
    record = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
    stems = {
        view: folder / (key if number == 0 else f"{key}.{view}")
        for number, view in enumerate(record["views"])
    }
    path = read_signal(folder / f"{key}.trajectory.npy")
    return Recorded(
        key,
        record["caption"],
        record["fps"],
        {view: decode(f"{stem}.mp4").frames_THWC for view, stem in stems.items()},
        {"trajectory": {"trajectory": path}, "rig": read_signal(folder / f"{key}.rig.npz")},
        {view: read_signal(f"{stem}.camera.npz") for view, stem in stems.items()},
        {view: read_signal(f"{stem}.scene_depth.npz")["depth_m"] for view, stem in stems.items()},
    )


class Maker:
    """Generates drives with one world."""

    def __init__(self, folder: str, steps: int) -> None:
        world: World = load_world(folder)
        self.world = world
        self.generator = get_family(world.config.family).make_generator(
            world.net, world.config.model, world.tokenizer, world.folder
        )
        self.encoder = load_text_encoder(dict(world.config.text_encoder))
        self.options = DiffusionOptions(steps=steps, guidance=0.0)
        self.is_told = True
        world.net.controls["driving"].register_forward_hook(self._hide)

    def _hide(self, module: nn.Module, given: object, made: ControlEmbedding) -> ControlEmbedding:
        """What the control adds; nothing where the path is not told, as in training without it."""
        if self.is_told:
            return made
        assert made.timestep_BTD is not None
        return mask_embedding(made, made.timestep_BTD.new_zeros(len(made.timestep_BTD)))

    def make(
        self, drive: Recorded, path: Array, seed: int, views: Sequence[str] | None = None
    ) -> dict[str, Frames]:
        """Generate the views of a drive from their first frames.

        Args:
            drive: the recorded drive.
            path: the path that the model is told.
            seed: seed of the noise.
            views: the cameras; by default all.
        """
        names = list(views or drive.views)
        rows = [list(drive.views).index(name) for name in names]
        first = next(iter(drive.views.values()))
        text_BLD = self.encoder.encode([drive.caption])[0]
        given = [frames_to_tensor(drive.views[name][:1])[None] for name in names]
        rig = {name: array[rows] for name, array in drive.signals["rig"].items()}
        controls = RIG.batch(rig, 0, len(first))
        controls |= TRAJECTORY.batch({"trajectory": path}, 0, len(first))
        shot = Shot(
            text_BLD,
            torch.zeros_like(text_BLD),
            len(first),
            *first.shape[1:3],
            drive.fps,
            seed,
            self.options,
            given_BCTHW=given[0] if len(names) == 1 else None,
            views=tuple(names),
            given_by_view=tuple(given) if len(names) > 1 else (),
            controls=controls,
        )
        video_CTHW = self.generator.generate(shot)[0]
        return {
            name: tensor_to_frames(part)
            for name, part in zip(names, video_CTHW.chunk(len(names), dim=1), strict=True)
        }

    def rebuild(self, drive: Recorded) -> dict[str, Frames]:
        """The recorded views after the tokenizer, the most that any model can reach."""
        made = {}
        for name, frames in drive.views.items():
            with torch.no_grad():
                latent = self.world.tokenizer.encode(frames_to_tensor(frames)[None])
                made[name] = tensor_to_frames(self.world.tokenizer.decode(latent)[0])
        return made


def score(
    drives: Sequence[Recorded], made: Sequence[Mapping[str, Frames]]
) -> list[dict[str, float]]:
    """Scores of each drive: the front camera's path, PSNR, and what views differ by."""
    front, metrics = next(iter(drives[0].views)), choose_metrics(METRICS)
    found = []
    # One at a time, so that the metrics share the path of a video, which takes seconds to find.
    for drive, views in zip(drives, made, strict=True):
        truth = {"camera": drive.cameras[front], "scene_depth": {"depth_m": drive.depths[front]}}
        case = Case(drive.key, views[front], drive.views[front], recorded=truth)
        scores = dict(evaluate_cases([case], metrics).clips[case.name].scores)
        differences = view_differences(views, drive.cameras, drive.depths)
        found.append({**scores, DIFFERENCE.name: float(np.nanmean(differences))})
    return found


def make_all(drives: Sequence[Recorded], world: str, steps: int) -> dict[str, list[Views]]:
    """What a world makes of drives, by the way it is made."""
    maker = Maker(world, steps)
    paths = [drive.signals["trajectory"]["trajectory"] for drive in drives]
    told = list(zip(drives, paths, strict=True))
    others = zip(drives, paths[1:] + paths[:1], strict=True)
    made: dict[str, list[Views]] = {
        "after the tokenizer": [maker.rebuild(drive) for drive in drives],
        OWN: [maker.make(drive, path, 0) for drive, path in told],
        "another's path": [maker.make(drive, path, 0) for drive, path in others],
        "one camera at a time": [
            {
                name: maker.make(drive, path, number, [name])[name]
                for number, name in enumerate(drive.views)
            }
            for drive, path in told
        ],
    }
    maker.is_told = False
    return made | {NONE: [maker.make(drive, path, 0) for drive, path in told]}


def evaluate(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Generate and score the drives of a folder."""
    started_s = time.process_time()
    keys = sorted(file.stem for file in folder.glob("drive_*.json"))[: options.episodes]
    drives = [read_drive(folder, key) for key in keys]
    # A drive whose own recorded video gives no path could show nothing of a model.
    of_recorded = score(drives, [drive.views for drive in drives])
    follow = [one["aligned_success"] > 0 for one in of_recorded]
    drives = [drive for drive, can in zip(drives, follow, strict=True) if can]
    videos: dict[str, list[Views]] = {RECORDED: [drive.views for drive in drives]}
    if options.world:
        videos |= make_all(drives, options.world, options.steps)
    found = {RECORDED: [one for one, can in zip(of_recorded, follow, strict=True) if can]}
    found |= {way: score(drives, made) for way, made in videos.items() if way != RECORDED}
    result: dict[str, object] = {
        "folder": folder.name,
        "drives": len(drives),
        "left out": len(keys) - len(drives),
    }
    values = {
        way: {name: np.array([one[name] for one in scores]) for name in scores[0]}
        for way, scores in found.items()
    }
    for way, of_way in values.items():
        result[way] = {metric: str(mean_score(array)) for metric, array in of_way.items()}
    if OWN in values:
        result |= compare(values)
    result["cpu_s"] = round(time.process_time() - started_s, 1)
    if options.out:
        save_page(options.out / folder.name, drives, videos, found, options)
    return result


def compare(values: Mapping[str, Mapping[str, Floats]]) -> dict[str, object]:
    """Differences of two ways to make the same drives, with their intervals."""
    own, alone = values[OWN], values["one camera at a time"]
    found: dict[str, object] = {}
    for error, name in (
        ("aligned_position_error_cm", "cm"),
        ("aligned_rotation_error_deg", "degrees"),
    ):
        none, others = values[NONE][error], values["another's path"][error]
        found[f"own / no path, {name}"] = round(float(own[error].mean() / none.mean()), 3)
        found[f"own - half of no path, {name}"] = str(paired_difference(own[error], none / 2))
        found[f"own - another's, {name}"] = str(paired_difference(own[error], others))
    difference = DIFFERENCE.name
    found["together - one at a time, grey levels"] = str(
        paired_difference(own[difference], alone[difference])
    )
    return found


def save_page(
    folder: Path,
    drives: Sequence[Recorded],
    videos: Mapping[str, Sequence[Views]],
    found: Mapping[str, Sequence[Mapping[str, float]]],
    options: argparse.Namespace,
) -> None:
    """Write a page with all scores and videos, and ``drives.png`` with some of them."""
    shown: dict[str, dict[str, Path]] = {drive.key: {} for drive in drives}
    for way, made in videos.items():
        for drive, views in zip(drives, made, strict=True):
            file = folder / "videos" / way.replace("'", "").replace(" ", "_") / f"{drive.key}.mp4"
            frames_THWC = np.concatenate(in_sight_order(views), axis=1)
            encode_video(file, Video(frames_THWC, drive.fps))
            shown[drive.key][way] = file
    judged = OWN if OWN in found else RECORDED
    metrics = [*choose_metrics(METRICS), DIFFERENCE]
    told = [told_metric(metric, way) for metric in metrics for way in found if way != judged]
    results = {}
    for number, drive in enumerate(drives):
        scores = dict(found[judged][number])
        for way in set(found) - {judged}:
            scores |= {f"{name}.{way}": value for name, value in found[way][number].items()}
        results[drive.key] = CaseScores(scores)
    evaluation = summarise(results, [*metrics, *told])
    inputs = {"world": options.world, "steps": options.steps, "drives": [d.key for d in drives]}
    record = make_record(evaluation, inputs)
    write_report(evaluation, folder, record, Shown(shown))
    save_sheet(folder / "drives.png", drives, videos)


def told_metric(metric: Metric, way: str) -> MeasuredMetric:
    """A metric of the videos that were made another way."""
    return MeasuredMetric(
        name=f"{metric.name}.{way}",
        description=f"{metric.name}: {way}",
        higher_is_better=metric.higher_is_better,
        unit=metric.unit,
        is_quality=metric.is_quality,
    )


def in_sight_order(views: Views) -> list[Frames]:
    """The cameras' frames as they stand on the car, from left to right."""
    return [views[view] for view in sorted(views, key=["left", "front", "right"].index)]


def save_sheet(
    file: Path, drives: Sequence[Recorded], videos: Mapping[str, Sequence[Views]]
) -> None:
    """Draw some drives: a block a drive, a row a way to make it, three moments of all views."""
    import cv2

    blocks = []
    for number in np.linspace(0, len(drives) - 1, min(4, len(drives))).astype(int):
        for made in videos.values():
            frames = in_sight_order(made[number])
            moments = np.linspace(0, len(frames[0]) - 1, 3).astype(int)
            blocks.append(np.hstack([np.hstack([one[t] for one in frames]) for t in moments]))
        blocks.append(np.zeros((4, blocks[-1].shape[1], 3), np.uint8))
    cv2.imwrite(str(file), np.vstack(blocks)[..., ::-1])


def main() -> None:
    """Score the world on each folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world")
    parser.add_argument("--drives", nargs="+", required=True)
    parser.add_argument("--episodes", type=int, default=24)
    parser.add_argument("--steps", type=int, default=10, help="sampling steps")
    parser.add_argument("--out", type=Path, help="folder for a page of each folder of drives")
    options = parser.parse_args()
    for folder in options.drives:
        print(json.dumps(evaluate(Path(folder), options)), flush=True)


if __name__ == "__main__":
    main()
