"""Paired measurements: two sides that take turns in one process, and the ratio of each pair.

A machine that slows down slows both halves of a pair, so the median of the ratios is steadier than
a ratio of medians. Wall seconds and CPU seconds are both kept: on a busy machine the CPU's ratio is
the one to read.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch


class Seconds(NamedTuple):
    """What one call took."""

    wall: float
    cpu: float

    def __add__(self, other: Seconds) -> Seconds:  # type: ignore[override]
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


class Pair(NamedTuple):
    """What both sides took, one directly after the other."""

    ours: Seconds
    theirs: Seconds


def time_call(call: Callable[[], Any]) -> Seconds:
    """Time one call, to the end of its work on the device."""
    start, cpu_start = time.perf_counter(), time.process_time()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - start, time.process_time() - cpu_start)


def alternate(
    ours: Callable[[], Any], theirs: Callable[[], Any], num_pairs: int, warm_up: int = 2
) -> list[Pair]:
    """Time two sides in turns, each of them first in every other pair.

    Args:
        ours: one side.
        theirs: the other.
        num_pairs: pairs that are kept.
        warm_up: pairs before them that are thrown away.
    """
    pairs = []
    for index in range(num_pairs + warm_up):
        if index % 2:
            ours_s, theirs_s = time_call(ours), time_call(theirs)
        else:
            theirs_s, ours_s = time_call(theirs), time_call(ours)
        pairs.append(Pair(ours_s, theirs_s))
    return pairs[warm_up:]


def summary(pairs: Sequence[Pair], digits: int = 3) -> dict[str, Any]:
    """The figures of a comparison; a ratio above 1 means that ours is faster."""
    ratios = [pair.theirs.wall / pair.ours.wall for pair in pairs]
    cpu_ratios = [pair.theirs.cpu / pair.ours.cpu for pair in pairs if pair.ours.cpu]
    return {
        "pairs": len(pairs),
        "ratio_median": round(statistics.median(ratios), digits),
        "ratio_min": round(min(ratios), digits),
        "cpu_ratio_median": round(statistics.median(cpu_ratios), digits) if cpu_ratios else None,
        "ours_ms": round(1e3 * statistics.median(pair.ours.wall for pair in pairs), 2),
        "theirs_ms": round(1e3 * statistics.median(pair.theirs.wall for pair in pairs), 2),
    }


def machine() -> dict[str, Any]:
    """Where it was measured: the load says how far wall seconds can be trusted."""
    return {"threads": torch.get_num_threads(), "load_1min": round(os.getloadavg()[0], 2)}
