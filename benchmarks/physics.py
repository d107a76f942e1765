"""Score what is no model on the physics suite: the truth, a still picture, and straight lines.

``truth`` is the recorded video itself: what a perfect model gets. ``repeat first`` shows the first
frame for ever; ``straight on`` moves every object on as it moves between the first two frames, over
the empty scene. A world model is worth what it gains over them.

    nemo-cosmos simulate clips --scene physics --episodes 32 --seed 2
    python benchmarks/physics.py clips
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from nemo_cosmos.controls import Values, decode_arrays
from nemo_cosmos.controls.objects import OBJECTS
from nemo_cosmos.evaluation import Case, choose_metrics
from nemo_cosmos.evaluation.cases import CaseScores, score_cases
from nemo_cosmos.evaluation.metric import Frames
from nemo_cosmos.evaluation.scoring import summarise
from nemo_cosmos.evaluation.suites import suite
from nemo_cosmos.video import decode

Make = Callable[[Frames, Values], Frames]


def repeat_first(truth_THWC: Frames, known: Values) -> Frames:
    """The first frame for ever."""
    return np.repeat(truth_THWC[:1], len(truth_THWC), axis=0)


def straight_on(truth_THWC: Frames, known: Values) -> Frames:
    """Every object goes on as between the first two frames, over the empty scene."""
    mask_THW = known["mask"]
    free_THW = cv2.erode((mask_THW == 0).astype(np.uint8).transpose(1, 2, 0), np.ones((3, 3)))
    free_THW = free_THW.transpose(2, 0, 1)[..., None]
    mean_HWC = (truth_THWC * free_THW).sum(0) / np.maximum(free_THW.sum(0), 1)
    empty_HWC = np.where(free_THW.sum(0) > 0, mean_HWC, truth_THWC[0]).astype(np.float32)
    height, width = mask_THW.shape[1:]
    places = np.concatenate([known["position_m"][:2], np.ones((2, mask_count(known), 1))], axis=2)
    seen = places @ known["projection"].T
    step_N2 = np.diff(seen[..., :2] / seen[..., 2:], axis=0)[0] * [width, height]
    frames = []
    for frame in range(len(truth_THWC)):
        picture_HWC = empty_HWC.copy()
        for index, step in enumerate(step_N2):
            move = np.float32([[1, 0, frame * step[0]], [0, 1, frame * step[1]]])
            inside = (mask_THW[0] == index + 1).astype(np.float32)
            cover, color = (
                cv2.warpAffine(one, move, (width, height))
                for one in (inside, truth_THWC[0].astype(np.float32) * inside[..., None])
            )
            picture_HWC = picture_HWC * (1 - cover[..., None]) + color
        frames.append(picture_HWC)
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def mask_count(known: Values) -> int:
    """Number of objects."""
    return len(known["mass_kg"])


MAKERS: dict[str, Make] = {
    "truth": lambda truth_THWC, known: truth_THWC,
    "repeat first": repeat_first,
    "straight on": straight_on,
}


def main() -> None:
    """Score each kind of video and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--leave-out", default="", help="metrics, with commas between them")
    asked = parser.parse_args()
    names = [name for name in suite("physics") if name not in asked.leave_out.split(",")]
    metrics = choose_metrics(names)
    scored: dict[str, dict[str, CaseScores]] = {name: {} for name in MAKERS}
    for video in sorted(asked.clips.glob("*.mp4")):
        truth_THWC = decode(video).frames_THWC
        content = video.with_suffix(f".{OBJECTS.suffix}").read_bytes()
        whole = decode_arrays(OBJECTS.suffix, content, str(video))
        known = OBJECTS.cut(whole, 0, asked.frames)
        truth_THWC = truth_THWC[: asked.frames]
        for name, make in MAKERS.items():
            case = Case(
                video.stem, make(truth_THWC, known), truth_THWC, recorded={OBJECTS.name: known}
            )
            (scored[name][video.stem],) = score_cases([case], metrics)
    found = {name: summarise(clips, metrics).scores for name, clips in scored.items()}
    table = {
        name: {metric: score.to_json() for metric, score in scores.items()}
        for name, scores in found.items()
    }
    print(json.dumps({"benchmark": "physics", "frames": asked.frames, "scores": table}))


if __name__ == "__main__":
    main()
