"""What a metric is: a small dataclass, of one of these kinds, with the functions that compute it.

- :class:`PairMetric` compares one generated video with the true one.
- :class:`VideoMetric` looks at one generated video alone.
- :class:`CaseMetric` looks at a video and at what was recorded with it: cameras, actions, objects.
- :class:`SetMetric` compares all generated videos with all true ones.
- :class:`CodeMetric` looks at the codes that a discrete tokenizer made of all videos.
- :class:`JudgeMetric` asks a model what it thinks of one video.
- :class:`MeasuredMetric` names a number that comes with a video.

A metric is one file that makes one of these; :mod:`.registry` finds it by name. The features that
a metric looks through are part of it: its name contains them and their exact version is recorded,
so that two numbers are compared only if the same network made them.

Shape suffixes: T frames, H height, W width, C channels, N rows of features, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.codes.counts import CodeCounts

Frames = NDArray[np.uint8]
Need: TypeAlias = str
"""What a metric may ask for besides the generated frames: ``truth``, ``prompt``, ``views``,
``codes``, or the name of a signal that was recorded with the true video (``camera``, ``action``,
``trajectory``)."""

NOT_RECORDED: frozenset[Need] = frozenset({"truth", "prompt", "views", "codes"})
"""Needs that are no signals."""

MetricKind = Literal["pair", "video", "case", "set", "codes", "judge", "measured"]


@dataclass(frozen=True)
class Features:
    """The network that a metric looks through.

    Attributes:
        name: the network's name.
        version: the exact weights.
    """

    name: str
    version: str


@dataclass(frozen=True)
class View:
    """What a further camera shows.

    Attributes:
        generated_THWC: uint8 RGB frames.
        truth_THWC: the true frames, of the same shape; None where there is no truth.
        recorded: what was recorded with it, as :class:`Case` has it.
    """

    generated_THWC: Frames
    truth_THWC: Frames | None = None
    recorded: Mapping[str, Values] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One generated video and what there is to compare it with.

    Attributes:
        name: the video's name, unique in its set.
        generated_THWC: uint8 RGB frames.
        truth_THWC: the true frames, of the same shape; None where there is no truth.
        prompt: the words that the video was generated from, if they are known.
        measured: numbers that whoever made the video measured, such as the seconds it took, by the
            name of their :class:`MeasuredMetric`.
        recorded: what was recorded with the true video: the arrays of each signal by its name, cut
            to the frames above.
        views: the same moments from further cameras, by the camera's name.
        codes: the codes that a discrete tokenizer made of the true video, where one made the
            generated one of them.
    """

    name: str
    generated_THWC: Frames
    truth_THWC: Frames | None = None
    prompt: str | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    recorded: Mapping[str, Values] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    codes: CodeCounts | None = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What all kinds have in common.

    Attributes:
        name: the name that ``--metric`` takes; it names the features, if there are any.
        description: one line for tables and reports.
        higher_is_better: the direction.
        unit: the number's unit, empty for a ratio.
        needs: what it needs besides the generated frames.
        uses: signals that it makes use of where they are there.
        is_default: whether it is computed unless others are asked for. Metrics that need weights, a
            server or many videos are computed on request.
        is_quality: whether it says how good a generated video is; a baseline, an amount or a
            duration does not, and no model is compared by it.
        is_repeatable: whether the same inputs give the same number again; a duration is measured.
        describe_features: gives the network that it looks through; None for a metric without one.
        batch_size: the number of videos that are handed over at once. Only a judge and a set metric
            with ``extract_many`` gain from more than one.
        min_frames: fewest frames that show what it measures; a shorter video has no number.
        frames_per_call: frames that the network sees at once, on a CPU and on a GPU; None for a
            metric without a network.
    """

    kind: ClassVar[MetricKind]
    name: str
    description: str
    higher_is_better: bool
    unit: str = ""
    needs: frozenset[Need] = frozenset({"truth"})
    uses: frozenset[Need] = frozenset()
    is_default: bool = True
    is_quality: bool = True
    is_repeatable: bool = True
    describe_features: Callable[[], Features] | None = None
    batch_size: int = 1
    min_frames: int = 1
    frames_per_call: tuple[int, int] | None = None

    @property
    def features(self) -> Features | None:
        """The network that it looks through, without loading it."""
        return self.describe_features() if self.describe_features is not None else None


@dataclass(frozen=True, kw_only=True)
class PairMetric(Metric):
    """One number for a generated video and the true one.

    Attributes:
        compute: ``(generated_THWC, truth_THWC) -> float``; None for the mean of ``per_frame``.
        per_frame: a number for each frame, float ``(T,)``, where that makes sense: it shows drift.

    Raises:
        ConfigError: it has neither function.
    """

    kind: ClassVar[MetricKind] = "pair"
    compute: Callable[[Frames, Frames], float] | None = None
    per_frame: Callable[[Frames, Frames], NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        _check_functions(self.name, self.compute, self.per_frame)

    def measure(self, generated_THWC: Frames, truth_THWC: Frames) -> tuple[float, list[float]]:
        """The number of a pair, and those of its frames (none without ``per_frame``).

        Args:
            generated_THWC: uint8 RGB frames.
            truth_THWC: uint8 RGB frames of the same shape.
        """
        curve_T = np.zeros(0)
        if self.per_frame is not None:
            curve_T = self.per_frame(generated_THWC, truth_THWC)
        score = self.compute(generated_THWC, truth_THWC) if self.compute else curve_T.mean()
        return float(score), curve_T.tolist()


@dataclass(frozen=True, kw_only=True)
class VideoMetric(Metric):
    """One number for a generated video alone.

    Attributes:
        compute: ``(frames_THWC) -> float``.
    """

    kind: ClassVar[MetricKind] = "video"
    needs: frozenset[Need] = frozenset()
    compute: Callable[[Frames], float]


@dataclass(frozen=True, kw_only=True)
class CaseMetric(Metric):
    """One number for a generated video, from all that is known of it.

    Attributes:
        compute: ``(case) -> float``; None for the mean of ``per_frame``.
        per_frame: a number for each frame, float ``(T,)``, where that makes sense: it shows drift.
        applies: ``(case) -> bool``, whether a video has what the metric measures (a collision, say,
            where it measures momentum); it has no number for the others. None for all videos.

    Raises:
        ConfigError: it has neither function.
    """

    kind: ClassVar[MetricKind] = "case"
    is_default: bool = False
    compute: Callable[[Case], float] | None = None
    per_frame: Callable[[Case], NDArray[np.float64]] | None = None
    applies: Callable[[Case], bool] | None = None

    def __post_init__(self) -> None:
        _check_functions(self.name, self.compute, self.per_frame)

    def measure(self, case: Case) -> tuple[float, list[float]]:
        """The number of a video, and those of its frames (none without ``per_frame``)."""
        curve_T = self.per_frame(case) if self.per_frame is not None else np.zeros(0)
        score = self.compute(case) if self.compute is not None else curve_T.mean()
        return float(score), curve_T.tolist()


@dataclass(frozen=True, kw_only=True)
class SetMetric(Metric):
    """One number for all generated videos and all true ones.

    Attributes:
        extract: ``(frames_THWC) -> (N, D)``, the features of one video: a row for each frame, or
            one for the whole.
        extract_many: the same for several videos, which may differ in length and size, at once:
            twice ``batch_size`` at most, the generated ones first; None to call ``extract`` for
            each.
        compare: ``(generated_ND, truth_ND) -> float`` of the rows of all videos.
        min_rows: the smallest number of rows on each side that gives a meaningful number.
        fewer_rows: a metric that serves with fewer, for the message.
        num_resamples: how often the videos are resampled for the interval.
    """

    kind: ClassVar[MetricKind] = "set"
    is_default: bool = False
    extract: Callable[[Frames], NDArray[np.float32]]
    extract_many: Callable[[Sequence[Frames]], Sequence[NDArray[np.float32]]] | None = None
    compare: Callable[[NDArray[np.float32], NDArray[np.float32]], float]
    min_rows: int
    fewer_rows: str | None = None
    num_resamples: int = 100


@dataclass(frozen=True, kw_only=True)
class CodeMetric(Metric):
    """One number for the codes of all videos.

    Attributes:
        compute: ``(counts) -> float``.
        num_resamples: how often the videos are resampled for the interval.
    """

    kind: ClassVar[MetricKind] = "codes"
    needs: frozenset[Need] = frozenset({"codes"})
    is_default: bool = False
    compute: Callable[[CodeCounts], float]
    num_resamples: int = 200


@dataclass(frozen=True, kw_only=True)
class MeasuredMetric(Metric):
    """A number that comes with a video: how long it took, or what another control would change."""

    kind: ClassVar[MetricKind] = "measured"
    needs: frozenset[Need] = frozenset()
    is_default: bool = False


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one video.

    Attributes:
        score: a number in the metric's unit.
        reason: its words, for a person.
    """

    score: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class JudgeMetric(Metric):
    """One number for a video, by a model that looks at it.

    Attributes:
        judge: gives a judgement for each case; they are asked for side by side.
    """

    kind: ClassVar[MetricKind] = "judge"
    needs: frozenset[Need] = field(default=frozenset({"prompt"}))
    is_default: bool = False
    judge: Callable[[Sequence[Case]], list[Judgement]]
    batch_size: int = 8


def _check_functions(name: str, *functions: object) -> None:
    if all(function is None for function in functions):
        raise ConfigError(
            f"The metric '{name}' has neither 'compute' nor 'per_frame'. Give at least one of the "
            "two functions."
        )
