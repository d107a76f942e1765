"""Frames a second of each metric that needs no more than a video and its truth.

The pair is a stretch of a real street video and the same frames after a coarse compression, at
256x256. ``frames_per_s`` is of wall time and depends on what else the machine does;
``frames_per_core_s`` is of CPU time of all threads, and is the one to read on a busy machine. Of a
metric of whole sets it is the features that are timed, and ``compare_s`` is the CPU time of one
comparison of the smallest set that it takes; the interval needs ``num_resamples`` more of them.
Metrics that need cameras, actions, codes, prompts or objects are not timed. Prints one JSON line
for each metric.

    python benchmarks/metrics.py [--metrics psnr lpips_vgg] [--repeats 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pairs import machine, time_call

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import NemoCosmosError
from nemo_cosmos.evaluation.metric import Frames, Metric, PairMetric, SetMetric, VideoMetric
from nemo_cosmos.evaluation.registry import choose_metrics, metrics
from nemo_cosmos.video import decode, resize_frames

FIRST_FRAME = 60
SIDE_PX = 256
GREY_LEVELS = 24


def pair_of_videos(num_frames: int) -> tuple[Frames, Frames]:
    """A video and a coarser copy of it, ``(T, 256, 256, 3)`` each."""
    numbers = range(FIRST_FRAME, FIRST_FRAME + num_frames)
    frames_THWC = decode(asset_path("video_bikes"), frame_indices=numbers).frames_THWC
    truth = resize_frames(frames_THWC, (SIDE_PX, SIDE_PX))
    small = resize_frames(truth // GREY_LEVELS * GREY_LEVELS, (SIDE_PX // 4, SIDE_PX // 4))
    return resize_frames(small, (SIDE_PX, SIDE_PX)), truth


def call_of(metric: Metric) -> Callable[[Frames, Frames], Any] | None:
    """What is timed; None for a metric that needs more than two videos."""
    if metric.needs - {"truth"}:
        return None
    if isinstance(metric, PairMetric):
        return metric.measure
    if isinstance(metric, VideoMetric):
        return lambda _, truth: metric.compute(truth)
    if isinstance(metric, SetMetric):
        return lambda _, truth: metric.extract(truth)
    return None


def seconds_to_compare(metric: SetMetric, num_features: int) -> float:
    """CPU seconds of one comparison of two sets of the least size."""
    rng = np.random.default_rng(0)

    def rows() -> NDArray[np.float32]:
        return rng.normal(size=(metric.min_rows, num_features)).astype(np.float32)

    first, second = rows(), rows()
    return time_call(lambda: metric.compare(first, second)).cpu


def measure(metric: Metric, num_frames: int, repeats: int) -> dict[str, Any] | None:
    """The figures of one metric; None where it cannot be timed here."""
    call = call_of(metric)
    if call is None:
        return None
    pair = pair_of_videos(num_frames)
    try:
        found = call(*pair)  # loads the network
    except NemoCosmosError as error:
        return {"metric": metric.name, "error": str(error)}
    taken = []
    for repeat in range(repeats):
        # Other pictures each time: some metrics keep what they computed of a video.
        shifted = [np.roll(frames, repeat + 1, axis=2) for frames in pair]
        taken.append(time_call(partial(call, *shifted)))
    wall, cpu = (statistics.median(getattr(one, kind) for one in taken) for kind in ("wall", "cpu"))
    line = {
        "metric": metric.name,
        "kind": metric.kind,
        "frames_per_s": round(num_frames / wall, 2),
        "frames_per_core_s": round(num_frames / cpu, 2),
    }
    if isinstance(metric, SetMetric):
        line["compare_s"] = round(seconds_to_compare(metric, found.shape[1]), 3)
        line["num_resamples"] = metric.num_resamples
    return line | {"frames": num_frames, "size": [SIDE_PX, SIDE_PX], **machine()}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", nargs="*", default=list(metrics()))
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for metric in choose_metrics(arguments.metrics):
        line = measure(metric, arguments.frames, arguments.repeats)
        if line is not None:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
