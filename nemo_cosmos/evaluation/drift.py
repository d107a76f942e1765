"""Does a long video get worse? The slope of a metric over the frames of each video."""

from __future__ import annotations

import numpy as np

from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.statistics import Score, mean_score

PER_FRAMES = 100
"""Slopes are given for this many frames."""


def drift(evaluation: Evaluation) -> dict[str, Score]:
    """Slope of each metric that has a number for each frame, per 100 frames.

    A video's slope is that of the least-squares line through its frames; the score is the mean over
    the videos, with its interval. Videos of fewer than three frames have none.

    Args:
        evaluation: the scores.

    Returns:
        the slopes by metric, in the metric's unit per 100 frames.
    """
    found: dict[str, Score] = {}
    for metric in evaluation.metrics:
        slopes = [
            slope(clip.curves[metric.name])
            for clip in evaluation.clips.values()
            if len(clip.curves.get(metric.name, ())) >= 3
        ]
        if slopes:
            found[metric.name] = mean_score(slopes)
    return found


def slope(curve: list[float]) -> float:
    """Slope of the least-squares line through the frames of one video, per 100 frames."""
    frames = np.arange(len(curve))
    return float(np.polyfit(frames, curve, 1)[0] * PER_FRAMES)
