"""What networks make of held-out recordings, after they learned from this or that: the numbers.

Shape suffixes: S seeds, E episodes, N steps of an episode, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import counted
from nemo_cosmos.evaluation.statistics import Score, mean_score, statistic_score
from post_training.robotics.usefulness.records import Figure

REAL, GENERATED, BOTH, MEAN = "real", "generated", "both", "mean"
LEARNED = (REAL, GENERATED, BOTH)
"""What a network learns from: recordings, as many generated episodes, or both."""

_LEAST_VARIANCE = 1e-9
"""Below it a number counts as constant: its sums are rounded."""

Errors = NDArray[np.float64]


@dataclass(frozen=True)
class Findings:
    """What the networks make of the held-out recordings.

    Attributes:
        names: the held-out recordings.
        numbers: names of an action's numbers.
        wanted: for each recording its actions (N, A).
        sizes: numbers of recordings that were learned from.
        predicted: by what was learned from and size, the actions of each network (a seed) for each
            recording.
    """

    names: list[str]
    numbers: tuple[str, ...]
    wanted: list[NDArray[np.float32]]
    sizes: list[int]
    predicted: Mapping[tuple[str, int], list[list[NDArray[np.float32]]]]

    @property
    def spread_A(self) -> Errors:
        """Standard deviation of each number over the held-out steps; 1 where it never changes."""
        spread = np.concatenate(self.wanted).std(axis=0, dtype=np.float64)
        return np.where(spread > 1e-6, spread, 1.0)

    def errors_EA(self, learned: str, size: int) -> Errors:
        """Mean absolute error of each episode and number, in standard deviations (E, A)."""
        seeds = [
            [
                np.abs(p - w).mean(axis=0, dtype=np.float64)
                for p, w in zip(run, self.wanted, strict=True)
            ]
            for run in self.predicted[learned, size]
        ]
        return np.mean(seeds, axis=0) / self.spread_A

    @property
    def told_A(self) -> NDArray[np.bool_]:
        """Which numbers all real episodes teach at all (R2 above 0); all where they teach none.

        What even they do not teach is too small to see in the videos, and would only add noise.
        """
        moments_SEA6 = self._moments(REAL, self.sizes[-1])
        told_A = r_squared(moments_SEA6.sum(axis=1)).mean(axis=0) > 0
        return told_A if told_A.any() else np.ones_like(told_A)

    def figures(self) -> dict[str, Figure]:
        """All numbers with their intervals over the held-out recordings."""
        found: dict[str, Figure] = {}
        told_A = self.told_A
        for size in self.sizes:
            error = {
                one: self.errors_EA(one, size)[:, told_A].mean(axis=1) for one in (*LEARNED, MEAN)
            }
            for one in (*LEARNED, MEAN):
                found[f"error.{one}.{size}"] = Figure(mean_score(error[one]), _ERROR[one], "std")
            found[f"ratio.{size}"] = Figure(
                _ratio(error[GENERATED], error[REAL]),
                "error after generated over error after as many real episodes; 1 is as good",
            )
            found[f"gain.{size}"] = Figure(
                _gain(error[BOTH], error[REAL]),
                "share of the error after real episodes alone that generated ones take away",
            )
        for one in LEARNED:
            found |= self._of_numbers(one)
        # A number that never changes on the held-out side has no variance to tell.
        return {name: one for name, one in found.items() if np.isfinite(one.score.value)}

    def _of_numbers(self, learned: str) -> dict[str, Figure]:
        """Error, R2 and correlation of each number of an action, learned from all episodes."""
        size = self.sizes[-1]
        error_EA = self.errors_EA(learned, size) * self.spread_A
        moments_SEA6 = self._moments(learned, size)
        what = f"learned from {counted(size, f'{learned} episode')}"
        found: dict[str, Figure] = {}
        for number, name in enumerate(self.numbers):
            moments_SE6 = moments_SEA6[:, :, number]

            def over_seeds(
                statistic: Callable[[Errors], Errors], moments_SE6: Errors = moments_SE6
            ) -> Score:
                return statistic_score(
                    lambda rows: float(statistic(moments_SE6[:, rows].sum(axis=1)).mean()),
                    len(self.wanted),
                )

            found |= {
                f"mae.{name}.{learned}": Figure(
                    mean_score(error_EA[:, number]), f"mean absolute error, {what}"
                ),
                f"r2.{name}.{learned}": Figure(
                    over_seeds(r_squared), f"share of the variance told, {what}"
                ),
                f"correlation.{name}.{learned}": Figure(
                    over_seeds(correlation), f"correlation with the truth, {what}"
                ),
            }
        return found

    def _moments(self, learned: str, size: int) -> Errors:
        """Sums over each episode's steps, ``(seeds, E, A, 6)``: of 1, w, p, w w, p p and w p.

        ``w`` is the wanted action, ``p`` the predicted one. Episodes are resampled by adding rows.
        """
        runs = []
        for run in self.predicted[learned, size]:
            rows = []
            for predicted_NA, wanted_NA in zip(run, self.wanted, strict=True):
                p, w = predicted_NA.astype(np.float64), wanted_NA.astype(np.float64)
                parts = (np.ones_like(w), w, p, w * w, p * p, w * p)
                rows.append(np.stack([part.sum(axis=0) for part in parts], axis=-1))
            runs.append(np.stack(rows))
        return np.stack(runs)

    def rows(self, figures: Mapping[str, Figure]) -> list[dict[str, Any]]:
        """The table: a line for each number of recordings.

        Args:
            figures: what :meth:`figures` gave.
        """
        return [
            {
                "real episodes": size,
                **{f"error, {one}": str(figures[f"error.{one}.{size}"].score) for one in LEARNED},
                "error, mean action": str(figures[f"error.{MEAN}.{size}"].score),
                "generated/real": str(figures[f"ratio.{size}"].score),
                "gain of both": str(figures[f"gain.{size}"].score),
            }
            for size in self.sizes
        ]


_ERROR = {
    REAL: "mean absolute error, learned from real episodes alone",
    GENERATED: "the same, learned from as many generated ones (same frames, same actions)",
    BOTH: "the same, learned from all generated ones and then from the real ones",
    MEAN: "the same, of always the mean action: nothing learned",
}


def r_squared(moments: Errors) -> Errors:
    """Share of the variance that predictions tell; NaN where there is none to tell.

    Args:
        moments: ``(..., 6)`` sums as :class:`Findings` makes them.
    """
    num, w, _, ww, pp, wp = np.moveaxis(moments, -1, 0)
    variance = ww - w * w / num
    with np.errstate(divide="ignore", invalid="ignore"):
        told = 1 - (pp - 2 * wp + ww) / variance
    return np.where(variance > _LEAST_VARIANCE * num, told, np.nan)


def correlation(moments: Errors) -> Errors:
    """Pearson's correlation; 0 for constant predictions, NaN where the truth is constant.

    Args:
        moments: ``(..., 6)`` sums as :class:`Findings` makes them.
    """
    num, w, p, ww, pp, wp = np.moveaxis(moments, -1, 0)
    variance, made = ww - w * w / num, pp - p * p / num
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (wp - w * p / num) / np.sqrt(variance * made)
    found = np.where(made > _LEAST_VARIANCE * num, found, 0.0)
    return np.where(variance > _LEAST_VARIANCE * num, found, np.nan)


def _ratio(first_E: Errors, second_E: Errors) -> Score:
    """Mean of the one over mean of the other, over the same episodes."""
    return statistic_score(
        lambda rows: float(first_E[rows].mean() / second_E[rows].mean()), len(first_E)
    )


def _gain(with_E: Errors, without_E: Errors) -> Score:
    """Share of the mean error that is taken away, over the same episodes."""
    return statistic_score(
        lambda rows: float(1 - with_E[rows].mean() / without_E[rows].mean()), len(with_E)
    )
