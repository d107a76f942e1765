"""Score videos in memory: the functions that the command, a callback and Python users share.

:func:`evaluate_pair` is the short way for one pair. :func:`score_cases` computes all that concerns
single videos, which can be kept and repeated in parts; :func:`summarise` then makes means and the
numbers of whole sets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError, InputError, NumericsError, counted
from nemo_cosmos.evaluation.cases import CaseScores, blamed_on, score_cases
from nemo_cosmos.evaluation.codes.counts import add_counts
from nemo_cosmos.evaluation.metric import (
    Case,
    CodeMetric,
    Frames,
    Metric,
    PairMetric,
    SetMetric,
)
from nemo_cosmos.evaluation.registry import as_metrics, default_motion
from nemo_cosmos.evaluation.statistics import Score, mean_score, statistic_score


@dataclass
class Evaluation:
    """The scores of a set of videos.

    Attributes:
        metrics: the metrics that were computed.
        clips: what was computed of each video, by its name.
        scores: the number of each metric over all videos, with its interval.
        first_frame: the number of the first frame that was compared, for curves.
        skipped: why a video has no score, by its name.
        allowed_mismatch: differences between two videos that someone meant.
        not_computed: why a metric that may be left out has no number, by its name.
    """

    metrics: list[Metric]
    clips: dict[str, CaseScores]
    scores: dict[str, Score] = field(default_factory=dict)
    first_frame: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    allowed_mismatch: list[str] = field(default_factory=list)
    not_computed: dict[str, str] = field(default_factory=dict)

    @property
    def lacking(self) -> dict[str, dict[str, str]]:
        """For each metric with a number, why some videos have none of it."""
        found: dict[str, dict[str, str]] = {}
        for name, clip in self.clips.items():
            for metric, reason in clip.lacking.items():
                if metric in self.scores:
                    found.setdefault(metric, {})[name] = reason
        return found


def evaluate_pair(
    generated_THWC: Frames, truth_THWC: Frames, chosen: Iterable[Metric | str] | None = None
) -> dict[str, float]:
    """Every chosen metric of one pair of videos.

    Args:
        generated_THWC: uint8 RGB frames.
        truth_THWC: uint8 RGB frames of the same shape.
        chosen: pair metrics, or their names; by default those that :func:`choose_metrics` gives.

    Raises:
        VideoError: the two are not videos of the same number of frames.
        WrongSizeError: the frames have different sizes.
        ConfigError: a metric is not one of a pair.
    """
    metrics = as_metrics(chosen)
    other = [metric.name for metric in metrics if not isinstance(metric, PairMetric)]
    if other:
        raise ConfigError(
            f"The metric '{other[0]}' is not one of a single pair. Use evaluate_cases for metrics "
            "of sets and judges, or choose pair metrics alone."
        )
    (result,) = score_cases([Case("the video", generated_THWC, truth_THWC)], metrics)
    return result.scores


def evaluate_cases(
    cases: Sequence[Case], chosen: Iterable[Metric | str] | None = None
) -> Evaluation:
    """Every chosen metric, of any kind, of videos in memory.

    Args:
        cases: the videos, with names of their own.
        chosen: metrics, or their names; by default those that :func:`choose_metrics` gives.

    Raises:
        ConfigError: a metric needs something that a case lacks, or two cases share a name.
        InputError: there are too few videos for a set metric, or a pair cannot be compared.
    """
    metrics = as_metrics(chosen)
    names = [case.name for case in cases]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(
            f"Expected at least one video and a name of its own for each, got {len(names)} videos "
            f"with {len(set(names))} different names."
        )
    optional = default_motion() if chosen is None else frozenset[str]()
    found = score_cases(cases, metrics, optional)
    return summarise(dict(zip(names, found, strict=True)), metrics, optional=optional)


def summarise(
    results: Mapping[str, CaseScores],
    metrics: Sequence[Metric],
    first_frame: int = 0,
    optional: Collection[str] = (),
) -> Evaluation:
    """Put the scores of single videos together, and compute the numbers of the whole set.

    Args:
        results: what :func:`score_cases` gave for each video, by its name.
        metrics: the same metrics.
        first_frame: the number of the first frame that was compared.
        optional: names of metrics that may be left out where they cannot be computed.

    Raises:
        InputError: there are too few frames for a set metric, or no metric has a number.
        NumericsError: a metric fails, or gives NaN or infinity.
    """
    evaluation = Evaluation([], dict(results), first_frame=first_frame)
    for metric in metrics:
        try:
            with blamed_on(metric):
                score = _score(metric, list(results.values()))
            if not np.isfinite(score.value):
                raise NumericsError(
                    f"The metric '{metric.name}' of all videos is {score.value}. Leave it out, or "
                    "report it together with the videos."
                )
            evaluation.scores[metric.name] = score
            evaluation.metrics.append(metric)
        except (InputError, NumericsError) as error:
            if metric.name not in optional:
                raise
            evaluation.not_computed[metric.name] = str(error)
    if not evaluation.metrics:
        reason = next(iter(evaluation.not_computed.values()), "None was asked for.")
        raise InputError(f"None of {len(metrics)} metrics can be computed. {reason}")
    return evaluation


def _score(metric: Metric, results: Sequence[CaseScores]) -> Score:
    """The number of a metric over the videos that have it."""
    if isinstance(metric, SetMetric):
        return _set_score(metric, results)
    if isinstance(metric, CodeMetric):
        return _code_score(metric, results)
    values = [one.scores[metric.name] for one in results if metric.name in one.scores]
    if not values:
        raise InputError(_why_none(metric, results))
    return mean_score(values)


def _set_score(metric: SetMetric, results: Sequence[CaseScores]) -> Score:
    """A set metric over all videos; resampling draws whole videos, not single rows."""
    pairs = [one.features[metric.name] for one in results if metric.name in one.features]
    if not pairs:
        raise InputError(_why_none(metric, results))

    def compare(rows_N: NDArray[np.intp]) -> float:
        generated_ND = np.concatenate([pairs[row][0] for row in rows_N])
        truth_ND = np.concatenate([pairs[row][1] for row in rows_N])
        return metric.compare(generated_ND, truth_ND)

    num_rows = min(sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    _check_rows(metric, num_rows, len(pairs))
    return statistic_score(
        compare, len(pairs), num_resamples=metric.num_resamples, grows_with_variety=True
    )


def _code_score(metric: CodeMetric, results: Sequence[CaseScores]) -> Score:
    """A number of all codes; resampling draws whole videos."""
    counts = [one.codes for one in results if one.codes is not None]
    if not counts:
        raise InputError(_why_none(metric, results))

    def compute(rows_N: NDArray[np.intp]) -> float:
        return metric.compute(add_counts([counts[row] for row in rows_N]))

    return statistic_score(
        compute, len(counts), num_resamples=metric.num_resamples, grows_with_variety=True
    )


def _why_none(metric: Metric, results: Sequence[CaseScores]) -> str:
    """Why no video has a number of a metric, in the words of the first."""
    reasons = (one.lacking.get(metric.name) for one in results)
    otherwise = (
        f"The metric '{metric.name}' applies to none of the {counted(len(results), 'video')}: none "
        f"shows what it measures, in {counted(metric.min_frames, 'frame')} or more. Choose other "
        "metrics, or other videos."
    )
    return next(filter(None, reasons), otherwise)


def _check_rows(metric: SetMetric, num_rows: int, num_videos: int) -> None:
    if num_rows < metric.min_rows:
        rows_a_video = max(1, num_rows // num_videos)
        instead = (
            f"take '{metric.fewer_rows}', which serves with fewer," if metric.fewer_rows else ""
        )
        raise InputError(
            f"The metric '{metric.name}' needs at least {metric.min_rows} rows of features on each "
            f"side, and these {num_videos} videos give {num_rows}. Compare at least "
            f"{-(-metric.min_rows // rows_a_video)} videos of this length, "
            f"{instead + ' ' if instead else ''}or leave the metric out."
        )
