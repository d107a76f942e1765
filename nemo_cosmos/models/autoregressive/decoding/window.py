"""How large a window or a tree should be: what a pass costs against what it makes final."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch

from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.tree import (
    Acceptance,
    Tree,
    expected_codes,
    grow_tree,
)
from nemo_cosmos.models.common.generator import from_first_rank
from nemo_cosmos.platform import by_device

CPU_SIZES, GPU_SIZES = (8, 16, 32, 64), (16, 32, 64, 96, 128)
"""Sizes that are tried: from where a pass costs little more than one of a single token."""
CPU_WINDOWS, GPU_WINDOWS = (1, 16, 32, 64), (1, 32, 64, 128)
"""Windows that are tried; one of 1 is the plain decoding."""
TRIES = 5
"""Passes with each window before one is chosen."""

_REPEATS = 2


def tried_sizes(device: torch.device) -> tuple[int, ...]:
    """Return the numbers of nodes that :func:`best_tree` chooses from."""
    sizes: tuple[int, ...] = by_device(CPU_SIZES, GPU_SIZES, device)
    return sizes


class MeasuredWindow:
    """A window that is chosen while decoding: the one that makes the most codes final in a second.

    The first passes go through all sizes in turns, and are no waste: whatever the window, codes
    become final. Which ones does not depend on it, so that a choice by the clock changes no code.

    Args:
        sizes: windows to try, each at most the number of codes.
        device: where the network computes; ranks choose what the first one measured.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self.sizes = tuple(sizes)
        self.device = device
        self.chosen: int | None = self.sizes[0] if len(self.sizes) == 1 else None
        self._seen: dict[int, list[tuple[int, float]]] = {size: [] for size in self.sizes}
        self._num_seen = 0

    @property
    def size(self) -> int:
        """The window of the next pass."""
        return self.chosen or self.sizes[self._num_seen % len(self.sizes)]

    @property
    def largest(self) -> int:
        """The largest window that a pass may have."""
        return max(self.sizes)

    def saw(self, size: int, num_codes: int, seconds: float) -> None:
        """Take in what a pass made.

        Args:
            size: its window; a shorter one, at the end of a video, is not counted.
            num_codes: codes that became final, of all videos together.
            seconds: how long it took.
        """
        if self.chosen is not None or size not in self._seen:
            return
        self._seen[size].append((num_codes, seconds))
        self._num_seen += 1
        if self._num_seen == TRIES * len(self.sizes):
            best = torch.tensor(max(self.sizes, key=self._speed), device=self.device)
            self.chosen = int(from_first_rank(lambda: best))

    def _speed(self, size: int) -> float:
        """Codes a second: their mean over the median time, for a pass may have been interrupted."""
        codes = statistics.mean(codes for codes, _ in self._seen[size])
        return codes / max(statistics.median(seconds for _, seconds in self._seen[size]), 1e-9)


def tried_windows(device: torch.device, num_codes: int) -> tuple[int, ...]:
    """Return the windows that :class:`MeasuredWindow` tries for videos of so many codes."""
    sizes: tuple[int, ...] = by_device(CPU_WINDOWS, GPU_WINDOWS, device)
    return tuple(dict.fromkeys(min(size, num_codes) for size in sizes))


def pass_seconds(scorer: Scorer, sizes: Sequence[int]) -> list[float]:
    """Measure passes behind the tokens that were fed; they leave no trace.

    Ranks get the times of the first, so that they choose alike.

    Args:
        scorer: the network, with room in its cache.
        sizes: numbers of tokens of a pass.
    """
    num_passes = scorer.num_passes
    seconds: list[float] = []
    for size in sizes:
        chain = Tree(tuple(range(-1, size - 1)), (0,) * size)
        tokens_BL = torch.zeros(scorer.batch_size, size, dtype=torch.int64, device=scorer.device)
        times = []
        for _ in range(1 + _REPEATS):  # the first one warms up
            start = time.perf_counter()
            logits_LBV = scorer.score(scorer.run(tokens_BL, chain))
            float(logits_LBV[0, 0, 0])  # waits for the device
            times.append(time.perf_counter() - start)
            scorer.roll_back([size] * scorer.batch_size)
        seconds.append(min(times[1:]))
    scorer.num_passes = num_passes
    measured = torch.tensor(seconds, dtype=torch.float64, device=scorer.device)
    shared: list[float] = from_first_rank(lambda: measured).tolist()
    return shared


def best_tree(acceptance: Acceptance, sizes: Sequence[int], seconds: Sequence[float]) -> Tree:
    """Return the tree that makes the most codes final in a second.

    Args:
        acceptance: how often guesses are right.
        sizes: numbers of nodes.
        seconds: time of a pass of each size.
    """
    trees = [grow_tree(acceptance, size) for size in sizes]
    speeds = [
        expected_codes(tree, acceptance) / cost for tree, cost in zip(trees, seconds, strict=True)
    ]
    return trees[speeds.index(max(speeds))]
