"""The metrics that are known by name; one file each, one entry here.

A metric takes two videos of the same shape, uint8 ``(T,H,W,3)`` RGB, the generated one first, and
gives one number. Packages add their own through the entry-point group ``nemo_cosmos.metrics``:
each entry point names a :class:`Metric`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points

import numpy as np

from nemo_cosmos.errors import ConfigError, VideoError, WrongSizeError, nearest_names
from nemo_cosmos.evaluation.pair.motion import flow_similarity, motion_following
from nemo_cosmos.evaluation.pair.psnr import psnr, repeat_first_frame_psnr
from nemo_cosmos.evaluation.pair.ssim import ssim

ENTRY_POINT_GROUP = "nemo_cosmos.metrics"


@dataclass(frozen=True)
class Metric:
    """One number for a pair of videos.

    Attributes:
        name: what ``--metrics`` takes.
        unit: unit of the number, empty for a ratio.
        higher_is_better: direction.
        compute: ``(generated_THWC, truth_THWC) -> float``.
        description: one line for tables and reports.
    """

    name: str
    unit: str
    higher_is_better: bool
    compute: Callable[[np.ndarray, np.ndarray], float]
    description: str


BUILTIN_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "dB", True, psnr, "peak signal-to-noise ratio over the whole video"),
        Metric("ssim", "", True, ssim, "structural similarity, mean over frames"),
        Metric(
            "psnr_repeat_first",
            "dB",
            True,
            repeat_first_frame_psnr,
            "baseline: the true first frame, repeated; a model that predicts motion beats it",
        ),
        Metric(
            "motion_following",
            "",
            True,
            motion_following,
            "agreement of the moving object's step-by-step displacement; 1 as told, 0 still",
        ),
        Metric(
            "flow_similarity",
            "",
            True,
            flow_similarity,
            "agreement of the optical flow at every pixel; 1 the same, 0 still",
        ),
    )
}


def metrics() -> dict[str, Metric]:
    """All known metrics by name, built-in ones first."""
    found = dict(BUILTIN_METRICS)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        found.setdefault(point.name, point.load())
    return found


def choose_metrics(names: Iterable[str] | None = None) -> list[Metric]:
    """The metrics of these names; by default all.

    Raises:
        ConfigError: a name is unknown.
    """
    known = metrics()
    chosen = list(names) if names is not None else list(known)
    for name in chosen:
        if name not in known:
            raise ConfigError(
                f"There is no metric '{name}'. The nearest are {nearest_names(name, known)}; "
                f"all metrics: {', '.join(known)}."
            )
    return [known[name] for name in chosen]


def evaluate_pair(
    generated_THWC: np.ndarray, truth_THWC: np.ndarray, chosen: Iterable[Metric] | None = None
) -> dict[str, float]:
    """Every chosen metric of one pair of videos.

    Raises:
        VideoError: the two are not videos of the same number of frames.
        WrongSizeError: the pictures have different sizes.
    """
    check_pair(generated_THWC, truth_THWC)
    return {
        metric.name: float(metric.compute(generated_THWC, truth_THWC))
        for metric in (chosen if chosen is not None else choose_metrics())
    }


def check_pair(generated_THWC: np.ndarray, truth_THWC: np.ndarray) -> None:
    """Refuse what cannot be compared frame by frame and pixel by pixel."""
    for name, video in (("generated", generated_THWC), ("true", truth_THWC)):
        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or 0 in video.shape:
            raise VideoError(
                f"The {name} video has type {video.dtype} and shape {video.shape}; expected uint8 "
                "frames (frames, height, width, 3). Decode it with nemo_cosmos.video.decode."
            )
    if len(generated_THWC) != len(truth_THWC):
        raise VideoError(
            f"The generated video has {len(generated_THWC)} frames, the true one "
            f"{len(truth_THWC)}; expected the same number. Cut both to the shorter one "
            "('--trim'), or generate as many frames as the truth has."
        )
    if generated_THWC.shape[1:3] != truth_THWC.shape[1:3]:
        raise WrongSizeError(
            f"The generated frames are {generated_THWC.shape[1:3]} (height, width), the true ones "
            f"{truth_THWC.shape[1:3]}; expected one size. Resize the truth ('--resize'), or "
            "compare with the curated clips."
        )
