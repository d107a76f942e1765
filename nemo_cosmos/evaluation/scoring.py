"""Score videos in memory: the functions that the command, a callback and Python users share.

:func:`evaluate_pair` is the short way for one pair. :func:`score_cases` computes all that concerns
single videos, which can be kept and repeated in parts; :func:`summarise` then makes means and the
numbers of whole sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    NemoCosmosError,
    NumericsError,
    VideoError,
    WrongSizeError,
)
from nemo_cosmos.evaluation.metric import (
    Case,
    CaseMetric,
    Frames,
    JudgeMetric,
    MeasuredMetric,
    Metric,
    PairMetric,
    SetMetric,
    VideoMetric,
)
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.statistics import Score, mean_score, statistic_score


@dataclass
class CaseScores:
    """Everything that was computed of one video.

    Attributes:
        scores: the number of each pair metric and judge.
        curves: the numbers of each frame, for pair metrics that have them.
        reasons: the words of each judge.
        features: rows of the generated and of the true video for each set metric.
    """

    scores: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    features: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(
        default_factory=dict
    )


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
    """

    metrics: list[Metric]
    clips: dict[str, CaseScores]
    scores: dict[str, Score] = field(default_factory=dict)
    first_frame: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    allowed_mismatch: list[str] = field(default_factory=list)


def evaluate_pair(
    generated_THWC: Frames, truth_THWC: Frames, chosen: Iterable[Metric] | None = None
) -> dict[str, float]:
    """Every chosen metric of one pair of videos.

    Args:
        generated_THWC: uint8 RGB frames.
        truth_THWC: uint8 RGB frames of the same shape.
        chosen: pair metrics; by default those that :func:`choose_metrics` gives.

    Raises:
        VideoError: the two are not videos of the same number of frames.
        WrongSizeError: the frames have different sizes.
        ConfigError: a metric is not one of a pair.
    """
    metrics = list(chosen) if chosen is not None else choose_metrics()
    other = [metric.name for metric in metrics if not isinstance(metric, PairMetric)]
    if other:
        raise ConfigError(
            f"The metric '{other[0]}' is not one of a single pair. Use evaluate_cases for metrics "
            "of sets and judges, or choose pair metrics alone."
        )
    (result,) = score_cases([Case("the video", generated_THWC, truth_THWC)], metrics)
    return result.scores


def evaluate_cases(cases: Sequence[Case], chosen: Iterable[Metric] | None = None) -> Evaluation:
    """Every chosen metric, of any kind, of videos in memory.

    Args:
        cases: the videos, with names of their own.
        chosen: metrics; by default those that :func:`choose_metrics` gives.

    Raises:
        ConfigError: a metric needs something that a case lacks, or two cases share a name.
        InputError: there are too few videos for a set metric, or a pair cannot be compared.
    """
    metrics = list(chosen) if chosen is not None else choose_metrics()
    names = [case.name for case in cases]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(
            f"Expected at least one video and a name of its own for each, got {len(names)} videos "
            f"with {len(set(names))} different names."
        )
    return summarise(dict(zip(names, score_cases(cases, metrics), strict=True)), metrics)


def score_cases(cases: Sequence[Case], metrics: Sequence[Metric]) -> list[CaseScores]:
    """All that the metrics say of single videos: numbers, curves, reasons, features.

    Args:
        cases: the videos.
        metrics: metrics of any kind.

    Raises:
        ConfigError: a metric needs something that a case lacks.
        VideoError: a pair does not have the same number of frames.
        WrongSizeError: a pair has different sizes.
        NumericsError: a metric gives NaN or infinity.
    """
    for case in cases:
        check_case(case, metrics)
    results = [CaseScores() for _ in cases]
    for metric in metrics:
        if isinstance(metric, JudgeMetric):
            _ask_judge(metric, cases, results)
            continue
        for case, result in zip(cases, results, strict=True):
            if isinstance(metric, MeasuredMetric):
                result.scores[metric.name] = _measured(metric, case)
                continue
            if isinstance(metric, VideoMetric):
                result.scores[metric.name] = float(metric.compute(case.generated_THWC))
                continue
            if isinstance(metric, CaseMetric):
                score, curve = metric.measure(case)
                result.scores[metric.name] = score
                if metric.per_frame is not None:
                    result.curves[metric.name] = curve
                continue
            if case.truth_THWC is None:  # checked above; judges alone need none
                continue
            if isinstance(metric, PairMetric):
                score, curve = metric.measure(case.generated_THWC, case.truth_THWC)
                result.scores[metric.name] = score
                if metric.per_frame is not None:
                    result.curves[metric.name] = curve
            elif isinstance(metric, SetMetric):
                rows = metric.extract(case.generated_THWC), metric.extract(case.truth_THWC)
                result.features[metric.name] = rows
    for case, result in zip(cases, results, strict=True):
        _check_finite(case.name, result)
    return results


def score_or_skip(
    cases: Sequence[Case], metrics: Sequence[Metric]
) -> tuple[dict[str, CaseScores], dict[str, NemoCosmosError]]:
    """Score what can be scored, and say what is wrong with the rest.

    Args:
        cases: the videos, with names of their own.
        metrics: metrics of any kind.

    Returns:
        the scores by name, and the errors of the other videos by name.

    Raises:
        ServiceError: a judge cannot be asked; that is no fault of a video.
    """
    try:
        return dict(zip([c.name for c in cases], score_cases(cases, metrics), strict=True)), {}
    except (InputError, NumericsError):
        pass  # one of them is at fault: each alone
    scored: dict[str, CaseScores] = {}
    refused: dict[str, NemoCosmosError] = {}
    for case in cases:
        try:
            (scored[case.name],) = score_cases([case], metrics)
        except (InputError, NumericsError) as error:
            refused[case.name] = error
    return scored, refused


def summarise(
    results: Mapping[str, CaseScores], metrics: Sequence[Metric], first_frame: int = 0
) -> Evaluation:
    """Put the scores of single videos together, and compute the numbers of the whole set.

    Args:
        results: what :func:`score_cases` gave for each video, by its name.
        metrics: the same metrics.
        first_frame: the number of the first frame that was compared.

    Raises:
        InputError: there are too few frames for a set metric.
    """
    scores: dict[str, Score] = {}
    for metric in metrics:
        if isinstance(metric, SetMetric):
            scores[metric.name] = _set_score(metric, list(results.values()))
        else:
            scores[metric.name] = mean_score([one.scores[metric.name] for one in results.values()])
    return Evaluation(list(metrics), dict(results), scores, first_frame)


def _set_score(metric: SetMetric, results: Sequence[CaseScores]) -> Score:
    """A set metric over all videos; resampling draws whole videos, not single rows.

    The resampled sets hold some videos twice, and a distance between sets grows a little with that:
    the interval lies high rather than low.
    """
    pairs = [result.features[metric.name] for result in results]

    def compare(rows_N: NDArray[np.intp]) -> float:
        generated_ND = np.concatenate([pairs[row][0] for row in rows_N])
        truth_ND = np.concatenate([pairs[row][1] for row in rows_N])
        return metric.compare(generated_ND, truth_ND)

    num_rows = min(sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    _check_rows(metric, num_rows, len(pairs))
    return statistic_score(compare, len(pairs), num_resamples=metric.num_resamples)


def check_case(case: Case, metrics: Sequence[Metric]) -> None:
    """Refuse a video that a metric cannot be computed of.

    Raises:
        ConfigError: a metric needs something that the video comes without.
        VideoError: the frames are not uint8 RGB, or a pair differs in length.
        WrongSizeError: a pair has different sizes.
    """
    there = {name for name, values in case.recorded.items() if values}
    there |= {"truth"} if case.truth_THWC is not None else set()
    there |= {"prompt"} if case.prompt else set()
    there |= {"views"} if case.views else set()
    for metric in metrics:
        compares = {"truth"} if isinstance(metric, PairMetric | SetMetric) else set()
        lacking = sorted((metric.needs | compares) - there)
        if lacking:
            raise ConfigError(
                f"The metric '{metric.name}' needs '{lacking[0]}' for every video, and "
                f"'{case.name}' has none. {_how_to_give(lacking[0])}, or leave the metric out."
            )
    _check_frames("generated", case.generated_THWC)
    if case.truth_THWC is not None:
        _check_frames("true", case.truth_THWC)
        _check_same_shape(case.generated_THWC, case.truth_THWC)


def _how_to_give(need: str) -> str:
    """The beginning of a sentence that says how a metric gets what it needs."""
    if need == "truth":
        return "Name the folder of true videos"
    if need == "prompt":
        return "Give the prompts (--prompts FILE)"
    if need == "views":
        return "Put the videos of further cameras beside it, as NAME.CAMERA.mp4"
    return f"Put its file beside the true video, as NAME.{need}.npy or .npz"


def _measured(metric: MeasuredMetric, case: Case) -> float:
    if metric.name not in case.measured:
        raise ConfigError(
            f"'{metric.name}' is measured while a video is made, and '{case.name}' comes without "
            "it. Evaluate the model itself, or leave it out."
        )
    return float(case.measured[metric.name])


def _ask_judge(metric: JudgeMetric, cases: Sequence[Case], results: Sequence[CaseScores]) -> None:
    for first in range(0, len(cases), metric.batch_size):
        batch = slice(first, first + metric.batch_size)
        judgements = metric.judge(cases[batch])
        for judgement, result in zip(judgements, results[batch], strict=True):
            result.scores[metric.name] = judgement.score
            result.reasons[metric.name] = judgement.reason


def _check_finite(name: str, result: CaseScores) -> None:
    for metric, score in result.scores.items():
        if not np.isfinite(score):
            raise NumericsError(
                f"The metric '{metric}' of '{name}' is {score}. Leave the metric out, or report it "
                "together with the two videos."
            )


def _check_frames(which: str, frames_THWC: Frames) -> None:
    if not isinstance(frames_THWC, np.ndarray):
        raise VideoError(
            f"The {which} video is a {type(frames_THWC).__name__}; expected an array of uint8 "
            "frames (frames, height, width, 3). Decode it with nemo_cosmos.video.decode."
        )
    shape = frames_THWC.shape
    if frames_THWC.dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
        raise VideoError(
            f"The {which} video has type {frames_THWC.dtype} and shape {shape}; expected uint8 "
            "frames (frames, height, width, 3). Decode it with nemo_cosmos.video.decode."
        )


def _check_same_shape(generated_THWC: Frames, truth_THWC: Frames) -> None:
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
