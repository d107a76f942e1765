"""How well and how fast shots are told apart. Prints one JSON line.

    NEMO_COSMOS_SAMPLES=... python benchmarks/shot_detection.py [--part report] [--videos 24]

Makes videos with known transitions from real shots (``planted_shots.py``), asks our detector,
PySceneDetect's two and TransNetV2 for theirs, and reports precision, recall and F1. A transition is
found when a detected one overlaps it or is at most two frames away; each counts once, and what is
left over is false. Then all are timed on the real clips, interleaved: the figure is the median of
the paired ratios of wall time to ours (above 1: ours is faster). The thresholds of our detector
were chosen on ``--part tune``, whose shots are not those of ``--part report``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

from planted_shots import FPS, Planted, load_shots, make_video  # noqa: E402

from data_curation.shots import detect, pyscenedetect, transnetv2  # noqa: E402
from data_curation.shots.transition import Transition  # noqa: E402
from nemo_cosmos.video import Video, encode_video  # noqa: E402

TOLERANCE_FRAMES = 2
DETECTORS: dict[str, Callable[[Path], list[Transition]]] = {
    "ours": detect.detect_shots,
    "pyscenedetect_adaptive": lambda path: pyscenedetect.detect_shots(path, "adaptive"),
    "pyscenedetect_content": lambda path: pyscenedetect.detect_shots(path, "content"),
    "transnetv2": transnetv2.detect_shots,
}
SPEED_CLIPS = (
    "curation/test_video_30s.mp4",
    "driving_multiview/sample_av_mv_input_rgb.mp4",
    "driving_multiview/video2world_multiview_input1.mp4",
)


def match(
    found: list[Transition], truth: list[Transition], tolerance: int = TOLERANCE_FRAMES
) -> tuple[set[int], set[int]]:
    """Indices of the found ones that are right, and of the true ones that were found."""
    right: set[int] = set()
    hit: set[int] = set()
    for index, item in enumerate(found):
        for place, true in enumerate(truth):
            touches = item.start <= true.end + tolerance and true.start <= item.end + tolerance
            if touches and place not in hit:
                right.add(index)
                hit.add(place)
                break
    return right, hit


class Score:
    """Counts over all videos."""

    def __init__(self) -> None:
        self.right = self.false = 0
        self.true: Counter[str] = Counter()
        self.hit: Counter[str] = Counter()
        self.fooled: Counter[str] = Counter()

    def add(self, found: list[Transition], truth: list[Planted], noise: list[Planted]) -> None:
        """Count one video."""
        right, hit = match(found, [item.where for item in truth])
        self.right += len(right)
        self.false += len(found) - len(right)
        self.true.update(item.kind for item in truth)
        self.hit.update(truth[place].kind for place in hit)
        for index in set(range(len(found))) - right:
            near = [item.kind for item in noise if match([found[index]], [item.where])[0]]
            self.fooled[near[0] if near else "other"] += 1

    def result(self) -> dict[str, Any]:
        """Figures for the JSON line."""
        precision = self.right / max(self.right + self.false, 1)
        recall = sum(self.hit.values()) / max(sum(self.true.values()), 1)
        return {
            "f1": round(2 * precision * recall / max(precision + recall, 1e-9), 3),
            "precision": round(precision, 3),
            "recall": round(recall, 3),
            "recall_of": {kind: f"{self.hit[kind]}/{self.true[kind]}" for kind in self.true},
            "false_at": dict(self.fooled),
        }


def quality(samples: Path, part: str, num_videos: int, names: list[str]) -> dict[str, Any]:
    """Score every detector on the same videos."""
    shots = load_shots(samples, part)
    scores = {name: Score() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(num_videos):
            frames, truth, noise = make_video(shots, seed)
            path = Path(folder) / "video.mp4"
            encode_video(path, Video(frames, FPS), crf=23, preset="veryfast")
            for name in names:
                scores[name].add(DETECTORS[name](path), truth, noise)
    return {name: score.result() for name, score in scores.items()}


def speed(samples: Path, num_pairs: int, names: list[str]) -> dict[str, Any]:
    """Ratios of wall and CPU time to ours on real clips, after one round to warm up."""
    others = [name for name in names if name != "ours"]
    wall: dict[str, dict[str, list[float]]] = {name: {} for name in others}
    cores: dict[str, dict[str, list[float]]] = {name: {} for name in others}
    for clip in SPEED_CLIPS:
        for pair in range(num_pairs + 1):
            spent = {name: _seconds(DETECTORS[name], samples / clip) for name in names}
            for name in others if pair else ():
                for ratios, kind in ((wall, 0), (cores, 1)):
                    ratio = spent[name][kind] / spent["ours"][kind]
                    ratios[name].setdefault(clip, []).append(ratio)
    return {name: {"wall": _ratios(wall[name]), "cpu": _ratios(cores[name])} for name in others}


def _seconds(detect_in: Callable[[Path], list[Transition]], path: Path) -> tuple[float, float]:
    """Seconds of the clock and of cores."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    detect_in(path)
    return time.perf_counter() - start_s, time.process_time() - start_cpu_s


def _ratios(by_clip: dict[str, list[float]]) -> dict[str, Any]:
    everything = [value for values in by_clip.values() for value in values]
    medians = {Path(clip).stem: statistics.median(values) for clip, values in by_clip.items()}
    return {
        "median": round(statistics.median(everything), 2),
        "smallest": round(min(everything), 2),
        "median_of_clip": {clip: round(value, 2) for clip, value in medians.items()},
    }


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", choices=("tune", "report"), default="report")
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    arguments = parser.parse_args()
    samples = Path(os.environ["NEMO_COSMOS_SAMPLES"])
    result: dict[str, Any] = {"benchmark": "shot_detection", "part": arguments.part}
    result["videos"] = arguments.videos
    result["tolerance_frames"] = TOLERANCE_FRAMES
    result["quality"] = quality(samples, arguments.part, arguments.videos, arguments.detectors)
    if arguments.pairs:
        result["time_over_ours"] = speed(samples, arguments.pairs, arguments.detectors)
    print(json.dumps(result | {"load_1min": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
