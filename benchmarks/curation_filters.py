"""Precision and recall of the filters of curation on planted examples. Prints one JSON line.

    NEMO_COSMOS_SAMPLES=... python benchmarks/curation_filters.py [--rounds 2] [--parts camera]

*Motion*: real clips as they are, and their first frame held with the noise of a sensor; encoded,
and judged with the filter's own thresholds. *Quality*: frames of real clips as they are, and
blurred, too dark, too bright, compressed as JPEG of quality 4 to 10, or with bars, each of a drawn
strength. A filter is right when it rejects its fault and nothing else; clips as they are must pass
all of them. *Camera*: a view of a real clip (of a fixed camera, so that things move in front of it)
that stands, pans, tilts, zooms or shakes at a drawn speed; the strongest label must be the planted
one. *Text overlay*: what ``text_overlay.py`` measures. *Video type*: clips whose type was told by
eye, by the embedded network.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from text_overlay import measure as measure_text_overlay

from data_curation.frames import spread
from data_curation.stages.camera import STRETCH_FRAMES, camera_motion
from data_curation.stages.motion import Measurement, MotionSettings
from data_curation.stages.video_type import VideoTypeSettings
from data_curation.stages.visual_quality import (
    RECOMMENDED,
    measure_quality,
    worst_fault,
)
from data_curation.video_type.taxonomy import likeliest, load_taxonomy
from nemo_cosmos.perception.encoders import EfficientNetEncoder, pool
from nemo_cosmos.video import Video, decode, encode_video, index_frames, probe

Draw = np.random.Generator
Pairs = Counter[tuple[str, str]]
#: Clips below the samples' folder: of any kind, and of cameras that stand still.
QUALITY_CLIPS = (
    "autoregressive/*.mp4",
    "curation/*.mp4",
    "driving_multiview/sample_av_mv_input_rgb.mp4",
    "tokenizer/text2world_example.mp4",
    "robotics_bridge/videos/*/*/rgb.mp4",
)
CAMERA_CLIPS = ("robotics_bridge/videos/*/*/rgb.mp4",)
#: What is seen in them, told by eye.
TYPED_CLIPS = {
    "driving": (
        "autoregressive/*.mp4",
        "driving_multiview/sample_av_mv_input_rgb.mp4",
        "driving_multiview/video2world_multiview_input1.mp4",
    ),
    "hand_motion_and_object_manipulation": CAMERA_CLIPS,
    "synthetically_rendered": ("curation/*.mp4", "driving_multiview/*hdmap*.mp4"),
}
_VIEW = (216, 384)
_FPS = 24.0


def _jpeg(frame: np.ndarray, rng: Draw) -> np.ndarray:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(4, 11))]
    return cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR)


def _bars(frame: np.ndarray, rng: Draw) -> np.ndarray:
    height = int(frame.shape[0] * rng.uniform(0.22, 0.32))
    frame = frame.copy()
    frame[:height] = frame[-height:] = 0
    return frame


FAULTS: dict[str, Callable[[np.ndarray, Draw], np.ndarray]] = {
    "none": lambda frame, rng: frame,
    "blurred": lambda frame, rng: cv2.GaussianBlur(
        frame, (0, 0), frame.shape[0] / rng.uniform(50, 120)
    ),
    "underexposed": lambda frame, rng: (frame * rng.uniform(0.02, 0.06)).astype(np.uint8),
    "overexposed": lambda frame, rng: np.clip(
        frame * rng.uniform(2.5, 4) + rng.uniform(60, 120), 0, 255
    ).astype(np.uint8),
    "blocky": _jpeg,
    "letterbox": _bars,
}


def motion(samples: Path, num_rounds: int) -> dict[str, Any]:
    """Judge every clip as it is, and held still."""
    least, pairs = MotionSettings(), Pairs()
    for seed in range(num_rounds):
        rng = np.random.default_rng(seed)
        for path in _clips(samples, QUALITY_CLIPS):
            moving = decode(path).frames_THWC[:48]
            noise = rng.normal(0, rng.uniform(0.5, 3), (len(moving), *moving.shape[1:]))
            still = np.clip(moving[:1] + noise, 0, 255).astype(np.uint8)
            for name, frames in (("moving", moving), ("still", still)):
                clip = _encoded(frames, int(rng.integers(18, 30)))
                scores = Measurement(clip, index_frames(clip)).scores
                passes = scores.global_mean >= least.min_global_mean
                passes &= scores.per_patch_min_256 >= least.min_per_patch
                pairs[name, "moving" if passes else "still"] += 1
    return _figures(pairs, ["moving", "still"])


def video_type(samples: Path, num_rounds: int) -> dict[str, Any]:
    """Sort clips of known type; the same in every round, as nothing is drawn."""
    taxonomy, encoder, pairs = load_taxonomy(), EfficientNetEncoder(), Pairs()
    for name, patterns in TYPED_CLIPS.items():
        for path in _clips(samples, patterns):
            numbers = spread(probe(path).num_frames, 8)
            frames = decode(path, frame_indices=numbers, size=encoder.image_size).frames_THWC
            vector_D, norm = pool(encoder.encode(frames), path.name)
            odds_K = np.exp(encoder.classify(vector_D * np.float32(norm)))
            votes = taxonomy.votes("video_type", odds_K / odds_K.sum())
            pairs[name, likeliest(votes, VideoTypeSettings().min_confidence)[0]] += 1
    return _figures(pairs, list(TYPED_CLIPS))


def text_overlay(samples: Path, num_rounds: int) -> dict[str, Any]:
    """One piece of each video."""
    return measure_text_overlay(per_video=1)


def quality(samples: Path, num_rounds: int) -> dict[str, Any]:
    """Plant every fault in every clip."""
    settings = RECOMMENDED
    pairs = Pairs()
    for seed in range(num_rounds):
        rng = np.random.default_rng(seed)
        for path in _clips(samples, QUALITY_CLIPS):
            frames = _some_frames(path, 3, rng)
            for fault, spoil in FAULTS.items():
                state = rng.bit_generator.state
                spoiled = []
                for frame in frames:  # the same strength in all frames
                    rng.bit_generator.state = state
                    spoiled.append(spoil(frame, rng))
                found = worst_fault(measure_quality(np.stack(spoiled), settings), settings)
                pairs[fault, found[1] if found else "none"] += 1
    return _figures(pairs, list(FAULTS))


CAMERA = ("static", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out", "shake")


def camera(samples: Path, num_rounds: int) -> dict[str, Any]:
    """Plant every motion in every clip."""
    pairs = Pairs()
    for seed in range(num_rounds):
        rng = np.random.default_rng(seed)
        for path in _clips(samples, CAMERA_CLIPS):
            frames = decode(path).frames_THWC
            frames = frames[np.minimum(np.arange(STRETCH_FRAMES), len(frames) - 1)]
            for motion in CAMERA:
                found = camera_motion([_views(frames, motion, rng)], _FPS)
                pairs[motion, next(iter(found.labels), "unsure")] += 1
    return _figures(pairs, list(CAMERA))


def _views(frames: np.ndarray, motion: str, rng: Draw) -> np.ndarray:
    """What a moving view sees; a tilt or pan of 0.05 to 0.5 widths a second, a zoom alike."""
    height, width = frames.shape[1:3]
    speed = rng.uniform(0.05, 0.5) / _FPS
    views = []
    for number, frame in enumerate(frames):
        size, x, y = 0.55, 0.0, 0.0
        travel = (number - STRETCH_FRAMES / 2) * speed * size * width
        if motion.startswith("pan"):
            x = travel if motion == "pan_right" else -travel
        elif motion.startswith("tilt"):
            y = -travel if motion == "tilt_up" else travel
        elif motion.startswith("zoom"):
            size *= np.exp((-1 if motion == "zoom_in" else 1) * number * speed)
        elif motion == "shake":
            x, y = rng.normal(0, 0.006 * width, 2)
        scale = _VIEW[1] / (size * width)
        matrix = np.array(
            [
                [scale, 0, _VIEW[1] / 2 - scale * (width / 2 + x)],
                [0, scale, _VIEW[0] / 2 - scale * (height / 2 + y)],
            ]
        )
        views.append(
            cv2.warpAffine(frame, matrix, _VIEW[::-1], flags=cv2.INTER_AREA | cv2.INTER_LINEAR)
        )
    small = [cv2.resize(view, (192, 108), interpolation=cv2.INTER_AREA) for view in views]
    return np.stack(small)


def _encoded(frames: np.ndarray, crf: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        encode_video(path, Video(frames, _FPS), crf=crf, preset="veryfast")
        return path.read_bytes()


def _clips(samples: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in samples.glob(pattern))


def _some_frames(path: Path, count: int, rng: Draw) -> np.ndarray:
    frames = decode(path).frames_THWC
    return frames[np.sort(rng.choice(len(frames), count, replace=False))]


def _figures(pairs: Pairs, names: list[str]) -> dict[str, Any]:
    """Precision, recall and number of examples of each."""
    result: dict[str, Any] = {}
    for name in names:
        right = pairs[name, name]
        planted = sum(count for (true, _), count in pairs.items() if true == name)
        found = sum(count for (_, said), count in pairs.items() if said == name)
        result[name] = {
            "precision": round(right / found, 3) if found else None,
            "recall": round(right / max(planted, 1), 3),
            "examples": planted,
        }
    wrong = {f"{a} as {b}": n for (a, b), n in pairs.items() if a != b}
    return result | {"confused": wrong}


PARTS = {
    "motion": motion,
    "quality": quality,
    "camera": camera,
    "text_overlay": text_overlay,
    "video_type": video_type,
}


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    samples = Path(os.environ["NEMO_COSMOS_SAMPLES"])
    result: dict[str, Any] = {"benchmark": "curation_filters", "rounds": arguments.rounds}
    for name in arguments.parts:
        result[name] = PARTS[name](samples, arguments.rounds)
    print(json.dumps(result | {"load_1min": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
