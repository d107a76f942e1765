"""How large a tree should be: what a pass costs, measured, against what it makes final."""

from __future__ import annotations

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

_REPEATS = 2


def tried_sizes(device: torch.device) -> tuple[int, ...]:
    """Return the numbers of nodes that :func:`best_tree` chooses from."""
    sizes: tuple[int, ...] = by_device(CPU_SIZES, GPU_SIZES, device)
    return sizes


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
