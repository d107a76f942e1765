"""How sure a number is: bootstrap intervals over videos, and differences of two sets of scores.

A mean over a handful of videos says little alone: another handful would give another. The interval
of a :class:`Score` covers what resampling the videos gives (Efron's percentile bootstrap). Two
models that were scored on the same videos are compared video by video, since what makes one video
hard makes it hard for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import InputError

LEVEL = 0.95
"""Share of the resampled values that an interval covers."""
NUM_RESAMPLES = 2000
BOOTSTRAP_SEED = 0
_MAX_DRAWS = 1 << 22
"""Random numbers drawn at once; a thousand videos would otherwise take much memory."""


@dataclass(frozen=True)
class Score:
    """A number with what it can be trusted for.

    Attributes:
        value: the number over all videos.
        low: lower end of its interval; None where one video, or none at all, leaves it open.
        high: upper end of its interval.
        num: how many videos, episodes or pairs it is of.
    """

    value: float
    low: float | None
    high: float | None
    num: int

    @property
    def is_above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def covers(self, value: float) -> bool:
        """Whether a value lies within the interval; without one, whether it is the same."""
        if self.low is None or self.high is None:
            return self.is_equal(value)
        slack = 1e-6 * max(1.0, abs(self.value))
        return self.low - slack <= value <= self.high + slack

    def is_equal(self, value: float) -> bool:
        """Whether a value is this one but for rounding."""
        return bool(np.isclose(value, self.value, rtol=1e-6, atol=1e-9))

    @property
    def interval(self) -> str:
        """The interval in words; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.low:.3f} to {self.high:.3f}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (n {self.num})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n {self.num})"


def mean_score(
    values: Sequence[float] | NDArray[np.floating],
    seed: int = BOOTSTRAP_SEED,
    num_resamples: int = NUM_RESAMPLES,
) -> Score:
    """The mean of a number over videos, with its interval.

    Args:
        values: one for each video.
        seed: seed of the resampling; the same gives the same interval.
        num_resamples: how often to resample.

    Raises:
        InputError: there is no value.
    """
    values_N = np.asarray(values, np.float64)
    if values_N.size == 0:
        raise InputError("A mean needs at least one value, and there is none.")
    mean = float(values_N.mean())
    if values_N.size == 1:
        return Score(mean, None, None, 1)
    means = [
        values_N[rows_RN].mean(axis=1) for rows_RN in _draws(values_N.size, seed, num_resamples)
    ]
    return _with_interval(mean, np.concatenate(means), values_N.size)


def statistic_score(
    statistic: Callable[[NDArray[np.intp]], float],
    num: int,
    seed: int = BOOTSTRAP_SEED,
    num_resamples: int = NUM_RESAMPLES,
    grows_with_variety: bool = False,
) -> Score:
    """Any number of a whole set, such as a rank correlation, with its interval.

    Args:
        statistic: gives the number of the videos in these rows; NaN where they leave it undefined.
        num: how many videos there are.
        seed: seed of the resampling.
        num_resamples: how often to resample.
        grows_with_variety: whether the number depends on how many different videos there are, as a
            distance of two distributions does or the number of codes that occur. Resampled sets
            hold some videos twice and others not at all, which moves all of them to one side; they
            are moved back, so that their mean is the number itself.
    """
    value = float(statistic(np.arange(num)))
    if num == 1:
        return Score(value, None, None, 1)
    resampled_R = np.asarray(
        [statistic(rows_N) for rows_RN in _draws(num, seed, num_resamples) for rows_N in rows_RN],
        np.float64,
    )
    if grows_with_variety and np.isfinite(resampled_R).any():
        resampled_R += value - np.nanmean(resampled_R)
    return _with_interval(value, resampled_R, num)


def paired_difference(
    first: Sequence[float] | NDArray[np.floating],
    second: Sequence[float] | NDArray[np.floating],
    seed: int = BOOTSTRAP_SEED,
) -> Score:
    """Mean of ``first - second`` over the same videos, with its interval.

    Args:
        first: a number for each video.
        second: the other number of the same videos, in the same order.
        seed: seed of the resampling.

    Raises:
        InputError: the two are of different lengths.
    """
    first_N, second_N = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first_N.shape != second_N.shape:
        raise InputError(
            f"A paired difference needs the same videos on both sides, got {first_N.size} and "
            f"{second_N.size} values."
        )
    return mean_score(first_N - second_N, seed)


def _draws(num: int, seed: int, num_resamples: int) -> list[NDArray[np.intp]]:
    """Rows of videos drawn with replacement, in blocks ``(R, N)``."""
    generator = np.random.default_rng(seed)
    block = max(1, _MAX_DRAWS // num)
    sizes = [min(block, num_resamples - done) for done in range(0, num_resamples, block)]
    return [generator.integers(0, num, (size, num)) for size in sizes]


def _with_interval(value: float, resampled_R: NDArray[np.float64], num: int) -> Score:
    defined = resampled_R[np.isfinite(resampled_R)]
    if defined.size == 0:
        return Score(value, None, None, num)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Score(value, float(low), float(high), num)
