"""What the face blur covers: faces that are there, and faces that are not. Prints one JSON line.

    python benchmarks/faces.py found CLIP_OR_PICTURE ... [--frames 24]
    python benchmarks/faces.py faceless CLIP ... [--clips 1000] [--frames 9] [--seed 0]

``found``: files in which every frame shows a face; the share of frames that the blur touches, as
the files are and varied: dark, noisy, out of focus, smeared, turned, and as small as a nano model's
pictures. Frames are 960 px wide or high at most.

``faceless``: clips that ``faceless_clips.py`` makes of files in which no frame shows a face; how
many the blur touches, with Wilson's interval of 95 %, and the blur's CPU milliseconds a frame.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from faceless_clips import faceless_clips  # noqa: E402

from nemo_cosmos.guardrails.faces.face_blur import FaceBlur  # noqa: E402
from nemo_cosmos.guardrails.text.prompt_set import wilson_interval  # noqa: E402
from nemo_cosmos.video import decode, probe  # noqa: E402

MAX_SIDE_PX = 960


def smeared(share: float) -> Callable[[np.ndarray], np.ndarray]:
    """Motion blur along the rows, over that share of the width."""

    def change(frame_HWC: np.ndarray) -> np.ndarray:
        length = max(3, round(frame_HWC.shape[1] * share) | 1)
        return cv2.filter2D(frame_HWC, -1, np.full((1, length), 1 / length))

    return change


def out_of_focus(share: float) -> Callable[[np.ndarray], np.ndarray]:
    """Gaussian blur with a sigma of that share of the width."""
    return lambda frame_HWC: cv2.GaussianBlur(frame_HWC, (0, 0), frame_HWC.shape[1] * share)


def turned(degrees: float) -> Callable[[np.ndarray], np.ndarray]:
    """Turned about the middle, black where nothing is known."""

    def change(frame_HWC: np.ndarray) -> np.ndarray:
        height, width = frame_HWC.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return cv2.warpAffine(frame_HWC, turn, (width, height))

    return change


def noisy(frame_HWC: np.ndarray) -> np.ndarray:
    """A sensor's noise of 16 levels."""
    noise_HWC = np.random.default_rng(0).normal(scale=16, size=frame_HWC.shape)
    return np.clip(frame_HWC + noise_HWC, 0, 255).astype(np.uint8)


VARIATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda frame_HWC: frame_HWC,
    "a quarter of the light": lambda frame_HWC: frame_HWC // 4,
    "noisy": noisy,
    "out of focus, 1 % of the width": out_of_focus(0.01),
    "smeared, 3 % of the width": smeared(0.03),
    "turned by 35 degrees": turned(35),
    "turned by 90 degrees": lambda frame_HWC: np.ascontiguousarray(np.rot90(frame_HWC)),
    "upside down": lambda frame_HWC: np.ascontiguousarray(np.rot90(frame_HWC, 2)),
    "96 px wide": lambda frame_HWC: _resized(frame_HWC, 96 / frame_HWC.shape[1]),
    "320 px wide": lambda frame_HWC: _resized(frame_HWC, 320 / frame_HWC.shape[1]),
}


def benchmark_found(arguments: argparse.Namespace) -> dict[str, Any]:
    """Share of frames with a face that the blur touches."""
    guard = FaceBlur()
    hits, frames = dict.fromkeys(VARIATIONS, 0), 0
    missed: dict[str, list[str]] = {}
    for file in arguments.clips:
        chosen = np.linspace(0, probe(file).num_frames - 1, arguments.frames).astype(int)
        frames_THWC = decode(file, frame_indices=np.unique(chosen)).frames_THWC
        scale = min(1.0, MAX_SIDE_PX / max(frames_THWC.shape[1:3]))
        frames += len(frames_THWC)
        for name, change in VARIATIONS.items():
            varied_THWC = np.stack([change(_resized(frame, scale)) for frame in frames_THWC])
            found = (guard.apply(varied_THWC)[0] != varied_THWC).any(axis=(1, 2, 3))
            hits[name] += int(found.sum())
            if not found.all():
                missed.setdefault(name, []).append(f"{Path(file).name} {(~found).sum()}")
    recall = {name: f"{count} of {frames}" for name, count in hits.items()}
    return {"files": len(arguments.clips), "frames": frames, "found": recall, "missed": missed}


def benchmark_faceless(arguments: argparse.Namespace) -> dict[str, Any]:
    """Clips without a face that the blur touches."""
    guard, touched = FaceBlur(), []
    num_clips, num_frames, cpu_s = 0, 0, 0.0
    clips = faceless_clips(arguments.clips, arguments.number, arguments.frames, arguments.seed)
    for name, frames_THWC in clips:
        start_s = time.process_time()
        changed = (guard.apply(frames_THWC)[0] != frames_THWC).any(axis=(1, 2, 3))
        cpu_s += time.process_time() - start_s
        num_clips, num_frames = num_clips + 1, num_frames + len(frames_THWC)
        if changed.any():
            size = "x".join(map(str, frames_THWC.shape[1:3]))
            touched.append(f"{name}, {size}: {changed.sum()} frames")
    low, high = wilson_interval(len(touched), num_clips)
    return {
        "sources": len(arguments.clips), "clips": num_clips, "frames": num_frames,
        "num_touched": len(touched), "share_95": [round(low, 5), round(high, 5)],
        "touched": touched, "cpu_ms_per_frame": round(1e3 * cpu_s / num_frames, 1),
    }  # fmt: skip


def _resized(frame_HWC: np.ndarray, scale: float) -> np.ndarray:
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(frame_HWC, None, fx=scale, fy=scale, interpolation=way)


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parts = parser.add_subparsers(required=True)
    found = parts.add_parser("found")
    found.add_argument("clips", nargs="+")
    found.add_argument("--frames", type=int, default=24)
    found.set_defaults(benchmark=benchmark_found)
    faceless = parts.add_parser("faceless")
    faceless.add_argument("clips", nargs="+")
    faceless.add_argument("--clips", dest="number", type=int, default=1000)
    faceless.add_argument("--frames", type=int, default=9)
    faceless.add_argument("--seed", type=int, default=0)
    faceless.set_defaults(benchmark=benchmark_faceless)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    result = {"benchmark": "faces"} | arguments.benchmark(arguments)
    print(json.dumps(result | {"load_1min": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
