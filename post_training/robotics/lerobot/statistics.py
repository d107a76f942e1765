"""Statistics of a LeRobot data set: of each feature, for each episode and for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from nemo_cosmos.aliases import Array, JsonObject

Stats: TypeAlias = dict[str, Array]
"""Statistics of a feature by LeRobot's names: min, max, mean, std, count, q01 to q99."""

_QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def number_stats(rows: Array) -> Stats:
    """Statistics of each number over the rows, as LeRobot names them."""
    values = np.asarray(rows, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    return _stats_over(values)


def pixel_stats(frames_THWC: Array) -> Stats:
    """Statistics of each colour, from 0 to 1, in LeRobot's shape (3, 1, 1)."""
    values = np.asarray(frames_THWC, np.float64).reshape(-1, 3) / 255
    found = _stats_over(values)
    shaped = {name: each.reshape(3, 1, 1) for name, each in found.items() if name != "count"}
    return shaped | {"count": np.array([len(frames_THWC)])}


def _stats_over(values: Array) -> Stats:
    found = {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
    }
    return found | {f"q{round(100 * q):02d}": np.quantile(values, q, axis=0) for q in _QUANTILES}


def aggregated(stats: Sequence[Mapping[str, Stats]]) -> JsonObject:
    """Statistics of all episodes together; quantiles are their means, weighted by rows."""
    whole = {feature: _together([one[feature] for one in stats]) for feature in stats[0]}
    return {
        feature: {name: each.tolist() for name, each in found.items()}
        for feature, found in whole.items()
    }


def _together(parts: Sequence[Stats]) -> Stats:
    count_E = np.array([part["count"][0] for part in parts])

    def mean_of(values: Sequence[Array]) -> Array:
        return np.asarray(np.average(np.stack(values), axis=0, weights=count_E))

    mean = mean_of([part["mean"] for part in parts])
    squares = [part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts]
    quantiles = [name for name in parts[0] if name.startswith("q")]
    return {
        "min": np.stack([part["min"] for part in parts]).min(0),
        "max": np.stack([part["max"] for part in parts]).max(0),
        "mean": mean,
        "std": np.sqrt(mean_of(squares)),
        "count": np.array([int(count_E.sum())]),
        **{name: mean_of([part[name] for part in parts]) for name in quantiles},
    }
