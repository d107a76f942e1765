"""Compute all that metrics say of single videos, and say what cannot be computed.

Shape suffixes: T frames, H height, W width, C channels, N rows of features, D features.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import (
    AssetError,
    ConfigError,
    InputError,
    MissingDependencyError,
    NemoCosmosError,
    NumericsError,
    VideoError,
    WrongSizeError,
)
from nemo_cosmos.evaluation.codes.counts import CodeCounts
from nemo_cosmos.evaluation.files.views import check_views
from nemo_cosmos.evaluation.metric import (
    Case,
    CaseMetric,
    CodeMetric,
    Frames,
    JudgeMetric,
    MeasuredMetric,
    Metric,
    PairMetric,
    SetMetric,
    VideoMetric,
)

Rows = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Features of a generated and of the true video, each ``(N, D)``."""

_CANNOT = (InputError, NumericsError, MissingDependencyError, AssetError)
"""Reasons why a metric that may be left out has no number: the video, or what is not installed."""

Shared = dict[tuple[object, ...], list[Rows]]
"""Rows by the function that extracts them, which several metrics may share, and the videos."""


@dataclass
class CaseScores:
    """Everything that was computed of one video.

    Attributes:
        scores: the number of each metric of a single video.
        curves: the numbers of each frame, for metrics that have them.
        reasons: the words of each judge.
        features: rows of the generated and of the true video for each set metric.
        lacking: why a metric that may be left out has no number here, by its name.
        codes: the codes that a discrete tokenizer made of it.
    """

    scores: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    features: dict[str, Rows] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    codes: CodeCounts | None = None


def score_cases(
    cases: Sequence[Case], metrics: Sequence[Metric], optional: Collection[str] = ()
) -> list[CaseScores]:
    """All that the metrics say of single videos: numbers, curves, reasons, features.

    Args:
        cases: the videos.
        metrics: metrics of any kind.
        optional: names of metrics that a video may do without; the reason stands in its scores.

    Raises:
        ConfigError: a metric needs something that a case lacks.
        VideoError: a pair does not have the same number of frames.
        WrongSizeError: a pair has different sizes.
        NumericsError: a metric gives NaN or infinity.
    """
    needed = [metric for metric in metrics if metric.name not in optional]
    for case in cases:
        check_case(case, needed)
    results = [CaseScores() for _ in cases]
    shared: Shared = {}
    for metric in metrics:
        for first in range(0, len(cases), metric.batch_size):
            batch = slice(first, first + metric.batch_size)
            if metric.name in optional:
                _try(metric, cases[batch], results[batch], shared)
            else:
                with blamed_on(metric):
                    _compute(metric, cases[batch], results[batch], shared)
    return results


def score_or_skip(
    cases: Sequence[Case], metrics: Sequence[Metric], optional: Collection[str] = ()
) -> tuple[dict[str, CaseScores], dict[str, NemoCosmosError]]:
    """Score what can be scored, and say what is wrong with the rest.

    Args:
        cases: the videos, with names of their own.
        metrics: metrics of any kind.
        optional: names of metrics that a video may do without.

    Returns:
        the scores by name, and the errors of the other videos by name.

    Raises:
        ServiceError: a judge cannot be asked; that is no fault of a video.
    """
    try:
        found = score_cases(cases, metrics, optional)
        return dict(zip([case.name for case in cases], found, strict=True)), {}
    except (InputError, NumericsError):
        pass  # one of them is at fault: each alone
    scored: dict[str, CaseScores] = {}
    refused: dict[str, NemoCosmosError] = {}
    for case in cases:
        try:
            (scored[case.name],) = score_cases([case], metrics, optional)
        except (InputError, NumericsError) as error:
            refused[case.name] = error
    return scored, refused


def check_case(case: Case, metrics: Sequence[Metric]) -> None:
    """Refuse a video that a metric cannot be computed of.

    Raises:
        ConfigError: a metric needs something that the video comes without.
        VideoError: the frames are not uint8 RGB, or a pair differs in length.
        WrongSizeError: a pair has different sizes.
    """
    for metric in metrics:
        _check_needs(metric, case)
    _check_frames("generated", case.generated_THWC)
    if case.truth_THWC is not None:
        _check_frames("true", case.truth_THWC)
        _check_same_shape(case.generated_THWC, case.truth_THWC)
    for name, view in case.views.items():
        _check_frames(f"generated view '{name}' of the", view.generated_THWC)
    check_views(case)


def _try(
    metric: Metric, cases: Sequence[Case], results: Sequence[CaseScores], shared: Shared
) -> None:
    """Compute a metric where it can be, and keep the reason elsewhere."""
    able = []
    for case, result in zip(cases, results, strict=True):
        try:
            _check_needs(metric, case)
            able.append((case, result))
        except InputError as error:
            result.lacking[metric.name] = str(error)
    try:
        with blamed_on(metric):
            _compute(metric, [case for case, _ in able], [result for _, result in able], shared)
        return
    except _CANNOT:
        pass  # one of them is at fault: each alone
    for case, result in able:
        try:
            with blamed_on(metric):
                _compute(metric, [case], [result], shared)
        except _CANNOT as error:
            for found in (result.scores, result.curves, result.reasons):
                found.pop(metric.name, None)
            result.lacking[metric.name] = str(error)


@contextmanager
def blamed_on(metric: Metric) -> Iterator[None]:
    """Say which metric failed, where its own code raises something that is no error of ours.

    Args:
        metric: a metric, perhaps of someone else's package.

    Raises:
        NumericsError: its code raised, or gave something else than a number.
    """
    try:
        yield
    except (NemoCosmosError, OSError, MemoryError):
        raise
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise
        raise NumericsError(
            f"The metric '{metric.name}' failed: {type(error).__name__}: {error}. Mend it "
            "(NEMO_COSMOS_DEBUG=1 shows where), or leave it out."
        ) from error


def _compute(
    metric: Metric, cases: Sequence[Case], results: Sequence[CaseScores], shared: Shared
) -> None:
    """Write what a metric says of a batch into its results."""
    name = metric.name
    able = [pair for pair in zip(cases, results, strict=True) if _applies(metric, pair[0])]
    cases, results = [case for case, _ in able], [result for _, result in able]
    if not cases:
        return
    if isinstance(metric, JudgeMetric):
        for judgement, result in zip(metric.judge(cases), results, strict=True):
            result.scores[name] = judgement.score
            result.reasons[name] = judgement.reason
    elif isinstance(metric, CodeMetric):
        for case, result in zip(cases, results, strict=True):
            result.codes = case.codes
        return
    elif isinstance(metric, SetMetric):
        key = (metric.extract, *(case.name for case in cases))
        if key not in shared:
            shared[key] = _features(metric, cases)
        for rows, result in zip(shared[key], results, strict=True):
            result.features[name] = rows
        return
    else:
        for case, result in zip(cases, results, strict=True):
            result.scores[name], curve = _number(metric, case)
            if curve:
                result.curves[name] = curve
    for case, result in zip(cases, results, strict=True):
        _check_finite(name, case.name, result.scores[name])


def _applies(metric: Metric, case: Case) -> bool:
    """Whether a video shows what the metric measures; a single picture shows no motion."""
    if len(case.generated_THWC) < metric.min_frames:
        return False
    return not isinstance(metric, CaseMetric) or metric.applies is None or metric.applies(case)


def _number(metric: Metric, case: Case) -> tuple[float, list[float]]:
    """The number of one video, and those of its frames."""
    if isinstance(metric, MeasuredMetric):
        return float(case.measured[metric.name]), []
    if isinstance(metric, VideoMetric):
        return float(metric.compute(case.generated_THWC)), []
    if isinstance(metric, CaseMetric):
        return metric.measure(case)
    if isinstance(metric, PairMetric):
        return metric.measure(case.generated_THWC, _truth(case))
    raise ConfigError(f"The metric '{metric.name}' is a {type(metric).__name__}, which is no kind.")


def _features(metric: SetMetric, cases: Sequence[Case]) -> list[Rows]:
    """Rows of the generated and the true video of each case."""
    generated = [case.generated_THWC for case in cases]
    truth = [_truth(case) for case in cases]
    if metric.extract_many is None:
        return [
            (metric.extract(g), metric.extract(t)) for g, t in zip(generated, truth, strict=True)
        ]
    rows = list(metric.extract_many([*generated, *truth]))
    return list(zip(rows[: len(cases)], rows[len(cases) :], strict=True))


def _truth(case: Case) -> Frames:
    if case.truth_THWC is None:
        raise ConfigError(f"'{case.name}' has no truth to compare with. {_how_to_give('truth')}.")
    return case.truth_THWC


def _check_needs(metric: Metric, case: Case) -> None:
    """Refuse a video without something that a metric needs.

    Raises:
        ConfigError: so it is.
    """
    if isinstance(metric, MeasuredMetric) and metric.name not in case.measured:
        raise ConfigError(
            f"'{metric.name}' is measured while a video is made, and '{case.name}' comes without "
            "it. Evaluate the model itself, or leave it out."
        )
    there = {name for name, values in case.recorded.items() if values}
    there |= {"truth"} if case.truth_THWC is not None else set()
    there |= {"prompt"} if case.prompt else set()
    there |= {"views"} if case.views else set()
    there |= {"codes"} if case.codes is not None else set()
    compares = {"truth"} if isinstance(metric, PairMetric | SetMetric) else set()
    lacking = sorted((metric.needs | compares) - there)
    if lacking:
        raise ConfigError(
            f"The metric '{metric.name}' needs '{lacking[0]}' for every video, and '{case.name}' "
            f"has none. {_how_to_give(lacking[0])}, or leave the metric out."
        )


def _how_to_give(need: str) -> str:
    """The beginning of a sentence that says how a metric gets what it needs."""
    if need == "truth":
        return "Name the folder of true videos"
    if need == "prompt":
        return "Give the prompts (--prompts FILE)"
    if need == "views":
        return "Put the videos of further cameras beside it, as NAME.CAMERA.mp4"
    if need == "codes":
        return "Evaluate a discrete tokenizer (--tokenizer FOLDER)"
    return f"Put its file beside the true video, as NAME.{need}.npy or .npz"


def _check_finite(metric: str, name: str, score: float) -> None:
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
