"""Our first-fit-decreasing packer against NeMo's, which sums every bin again for every sample.

Lengths are those of latents of many sizes and aspects. Both must find the same bins. The two sides
alternate in one process; the figure is the median of the paired ratios (above 1: ours is faster).
Also told, of the same packs: how full they are, and how much more than the average the costliest of
32 ranks has to do in a step, balanced and as the packs come. Prints one JSON line.

    python benchmarks/packing.py [--samples 16000] [--max-tokens 16384] [--pairs 3]
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from pairs import alternate, machine, summary  # noqa: E402

from nemo_cosmos.data.order.packing import balance, first_fit_decreasing  # noqa: E402

NUM_RANKS, PACKS_PER_RANK = 32, 4
LINEAR_COST, QUADRATIC_COST = 1.0, 1 / (6 * 4096)
FRAMES, ROWS, COLUMNS = (1, 17), (8, 34), (8, 46)


def make_lengths(num_samples: int, max_tokens: int) -> NDArray[np.int64]:
    """Tokens of clips of 1 to 16 latent frames."""
    random = np.random.default_rng(0)
    frames, rows, columns = (
        random.integers(*limits, num_samples) for limits in (FRAMES, ROWS, COLUMNS)
    )
    lengths: NDArray[np.int64] = np.minimum(frames * rows * columns, max_tokens)
    return lengths


def check_same(lengths: NDArray[np.int64], ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    """Assert that all samples are there and that the bins are the same, in the same order."""
    assert sorted(np.concatenate(ours).tolist()) == list(range(len(lengths)))
    assert [lengths[found].tolist() for found in ours] == theirs


def imbalance(costs: NDArray[np.float64]) -> dict[str, float]:
    """The costliest rank's share over the average one, the mean over steps."""
    per_step = NUM_RANKS * PACKS_PER_RANK
    steps = costs[: len(costs) // per_step * per_step].reshape(-1, per_step)
    balanced = [
        max(step[share].sum() for share in balance(step, NUM_RANKS)) * NUM_RANKS / step.sum()
        for step in steps
    ]
    as_they_come = [
        step.reshape(NUM_RANKS, PACKS_PER_RANK).sum(1).max() * NUM_RANKS / step.sum()
        for step in steps
    ]
    return {
        "balanced": round(float(np.mean(balanced)), 4),
        "as_they_come": round(float(np.mean(as_they_come)), 4),
    }


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16_000)
    parser.add_argument("--max-tokens", type=int, default=16_384)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    from nemo.utils.sequence_packing_utils import first_fit_decreasing as theirs

    lengths = make_lengths(arguments.samples, arguments.max_tokens)
    as_list = lengths.tolist()
    our_bins = first_fit_decreasing(lengths, arguments.max_tokens)
    check_same(lengths, our_bins, theirs(as_list, arguments.max_tokens))
    pairs = alternate(
        lambda: first_fit_decreasing(lengths, arguments.max_tokens),
        lambda: theirs(as_list, arguments.max_tokens),
        arguments.pairs,
        warm_up=0,
    )
    random = np.random.default_rng(1)
    costs = np.array(
        [
            (LINEAR_COST * lengths[found] + QUADRATIC_COST * lengths[found] ** 2.0).sum()
            for found in our_bins
        ]
    )
    result = {
        "benchmark": "packing",
        "against": "nemo.utils.sequence_packing_utils.first_fit_decreasing",
        "samples": arguments.samples,
        "max_tokens": arguments.max_tokens,
        **summary(pairs, digits=1),
        "packs": len(our_bins),
        "filled": round(float(lengths.sum()) / (len(our_bins) * arguments.max_tokens), 4),
        "costliest_rank_over_average": imbalance(random.permutation(costs)),
        **machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
