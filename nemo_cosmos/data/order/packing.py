"""Pack samples of different length, size and aspect into sequences of one length.

A pack is what a model takes as one sequence with a boundary between samples ("THD"): attention
stays inside each sample, and each has its own noise level, fps, text and loss weight.

Shape suffixes: N samples of a pack.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError

PatchSize = tuple[int, int, int]
"""Latent frames, rows and columns of one token."""


@dataclass(frozen=True)
class PackConfig:
    """How samples are packed.

    Attributes:
        max_tokens: capacity of a pack.
        patch: latent frames, rows and columns of one token, as the model has them.
        window: consecutive samples of the order that are packed together; more of them waste less
            of the packs, and mix the order more.
        linear_cost: a in the cost ``a n + b n^2`` of a sample of n tokens.
        quadratic_cost: b. A transformer layer of width D takes about 24 n D^2 operations in its
            linear maps and 4 n^2 D in attention, so b/a is 1/(6 D); the default is for D = 4096.
    """

    max_tokens: int
    patch: PatchSize = (1, 2, 2)
    window: int = 4096
    linear_cost: float = 1.0
    quadratic_cost: float = 1 / (6 * 4096)

    def __post_init__(self) -> None:
        if min(self.max_tokens, self.window, *self.patch) < 1:
            raise ConfigError(
                f"Packs of {self.max_tokens} tokens from windows of {self.window} samples in "
                f"patches of {self.patch}: expected positive numbers."
            )


def num_tokens(latent_shape: Sequence[int], patch: PatchSize) -> int:
    """Return the tokens of a latent (C, T, H, W).

    Raises:
        ConfigError: it does not divide into patches.
    """
    sizes = tuple(int(size) for size in latent_shape[1:])
    if len(sizes) != 3 or min(sizes) < 1 or any(n % p for n, p in zip(sizes, patch, strict=True)):
        raise ConfigError(
            f"A latent of shape {tuple(latent_shape)} does not divide into patches of {patch} "
            "frames, rows and columns. Tokenize at a size that does, or pack for another patch."
        )
    return math.prod(n // p for n, p in zip(sizes, patch, strict=True))


def collate_pack(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one pack of samples.

    Returns:
        Stacked, the tensors of one shape for all samples: ``fps (N,)``, ``num_frames (N,)``,
        ``image_size (N, 4)``, ``t5_text_embeddings (N, L, D)``, ``t5_text_mask (N, L)``; as lists
        of N, the others: ``latent``, each (C, T, H, W), ``padding_mask``, the signals of
        controls, ``key`` and ``views``.
    """
    batch: dict[str, Any] = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        fixed = torch.is_tensor(first) and name in _ONE_SHAPE
        batch[name] = torch.stack(values) if fixed else values
    return batch


_ONE_SHAPE = ("t5_text_embeddings", "t5_text_mask", "fps", "num_frames", "image_size")


def first_fit_decreasing(lengths: NDArray[np.int64], capacity: int) -> list[NDArray[np.int64]]:
    """Pack items into bins by first-fit-decreasing: at most 11/9 of the fewest bins + 6/9.

    The longest items go first, each into the first bin with room. Items of one length are placed
    together: the first bins take as many as fit. So the work grows with the number of different
    lengths, not of items.

    Args:
        lengths: positive lengths of the items.
        capacity: size of a bin.

    Returns:
        Indices of the items of each bin.

    Raises:
        ConfigError: an item is longer than a bin, or has no length.
    """
    if not len(lengths):
        return []
    if lengths.min() < 1 or lengths.max() > capacity:
        raise ConfigError(
            f"A sample has {int(lengths.max())} tokens (the shortest {int(lengths.min())}), but a "
            f"pack holds 1 to {capacity}. Raise max_tokens to at least {int(lengths.max())}, or "
            "tokenize into smaller windows."
        )
    room = np.empty(len(lengths), np.int64)
    num_bins = 0
    placed = []
    distinct, counts = np.unique(-lengths, return_counts=True)
    for length, count in zip((-distinct).tolist(), counts.tolist(), strict=True):
        with_room = np.flatnonzero(room[:num_bins] >= length)[:count]
        chosen = np.repeat(with_room, room[with_room] // length)[:count]
        rest, per_bin = count - len(chosen), capacity // length
        if rest:
            num_new = -(-rest // per_bin)
            room[num_bins : num_bins + num_new] = capacity
            chosen = np.concatenate([chosen, num_bins + np.arange(rest) // per_bin])
            num_bins += num_new
        np.subtract.at(room, chosen, length)
        placed.append(chosen)
    bins = np.concatenate(placed)
    by_length = np.argsort(-lengths, kind="stable")
    by_bin = by_length[np.argsort(bins, kind="stable")]  # within a bin, the longest comes first
    return np.split(by_bin, np.cumsum(np.bincount(bins, minlength=num_bins))[:-1])


def balance(costs: NDArray[np.float64], num_ranks: int) -> list[NDArray[np.int64]]:
    """Share items equally among ranks, so that the costliest share is small.

    The costliest items go first, each to the rank with the least cost that still has room.

    Args:
        costs: costs of the items; their number is a multiple of ``num_ranks``.
        num_ranks: number of ranks.

    Returns:
        Indices of the items of each rank, ascending.
    """
    each, rest = divmod(len(costs), num_ranks)
    if rest:
        raise ConfigError(
            f"{len(costs)} packs cannot be shared equally among {num_ranks} data-parallel ranks. "
            f"Set global_batch_size to a multiple of {num_ranks}."
        )
    shares: list[list[int]] = [[] for _ in range(num_ranks)]
    ranks = [(0.0, rank) for rank in range(num_ranks)]
    for item in np.argsort(-costs, kind="stable").tolist():
        load, rank = heapq.heappop(ranks)
        shares[rank].append(item)
        if len(shares[rank]) < each:
            heapq.heappush(ranks, (load + float(costs[item]), rank))
    return [np.array(sorted(share), np.int64) for share in shares]
