"""Semantic deduplication: of clips whose embeddings are nearly the same, the best is kept.

After SemDeDup (Abbas et al. 2023, arXiv:2303.09540): k-means, then the cosine of all pairs within a
cluster. Two things differ. A vector near the border of its cluster is compared in the clusters
beyond it, too, because a pair that a border parts would never be seen; and of a group the best clip
is kept (largest picture, then longest), not the one that is furthest from the centre.

Shape suffixes: N vectors, R C rows and columns of a block.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from data_curation.deduplication import KEPT
from data_curation.deduplication.clusters import assign, choose_num_clusters, fit_centres
from data_curation.deduplication.vectors import VectorFile

#: Similarities held at once, in numbers.
_BLOCK_NUMBERS = 8 * 1024 * 1024


def semantic_duplicates(
    vectors: VectorFile,
    rank_N: NDArray[np.int64],
    threshold: float,
    num_known: int = 0,
    num_clusters: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each vector, the one that it duplicates.

    Among the vectors that are kept, no two that were compared reach the threshold.

    Args:
        vectors: vectors of length one.
        rank_N: rank of each row by quality, 0 the best; of two duplicates the lower rank is kept.
        threshold: least cosine of duplicates.
        num_known: so many vectors at the beginning are from earlier runs: they are always kept, and
            not compared with each other.
        num_clusters: chosen by size by default.

    Returns:
        The row of the kept one, or :data:`KEPT`; and the cosine with it (0 for a kept one).
    """
    count = len(vectors)
    duplicate_of = np.full(count, KEPT, dtype=np.int64)
    cosine = np.zeros(count, dtype=np.float32)
    if count - num_known < 1 or count < 2:
        return duplicate_of, cosine
    if num_clusters is None:
        num_clusters = choose_num_clusters(count, count - num_known)
    radius = math.sqrt(2 * max(0.0, 1 - threshold))
    if num_clusters == 1:
        groups = [np.arange(count)]
    else:
        rows, clusters = assign(vectors, fit_centres(vectors, num_clusters), radius)
        groups = np.split(rows, np.flatnonzero(np.diff(clusters)) + 1)
    for group in groups:
        _compare(vectors, group, rank_N, threshold, num_known, duplicate_of, cosine)
    return _roots(duplicate_of), cosine


def _compare(
    vectors: VectorFile,
    group: NDArray[np.int64],
    rank_N: NDArray[np.int64],
    threshold: float,
    num_known: int,
    duplicate_of: NDArray[np.int64],
    cosine: NDArray[np.float32],
) -> None:
    """Mark the duplicates among the rows of one cluster that are not marked yet."""
    alive = group[duplicate_of[group] == KEPT]
    known = alive[alive < num_known]
    new = alive[alive >= num_known]
    new = new[np.argsort(rank_N[new], kind="stable")]
    # Known rows strike out new ones; then each new row, best first, strikes out those behind it.
    for strikers, is_known in ((known, True), (new, False)):
        size = max(64, _BLOCK_NUMBERS // max(1, len(new)))
        for start in range(0, len(strikers), size):
            block = strikers[start : start + size]
            block = block[duplicate_of[block] == KEPT]
            others = new if is_known else new[start:]
            others = others[duplicate_of[others] == KEPT]
            if len(block) and len(others):
                _strike(vectors, block, others, is_known, threshold, duplicate_of, cosine)


def _strike(
    vectors: VectorFile,
    block: NDArray[np.int64],
    others: NDArray[np.int64],
    is_known: bool,
    threshold: float,
    duplicate_of: NDArray[np.int64],
    cosine: NDArray[np.float32],
) -> None:
    """Mark those of ``others`` that duplicate a row of ``block``; unless known, it begins them."""
    others_CD = torch.from_numpy(vectors.read(others))
    block_RD = torch.from_numpy(vectors.read(block)) if is_known else others_CD[: len(block)]
    similar_RC = (block_RD @ others_CD.T).numpy()
    hit_RC = similar_RC >= threshold
    if not is_known:
        hit_RC = np.triu(hit_RC, k=1)
    for place in np.flatnonzero(hit_RC.any(axis=1)).tolist():
        if duplicate_of[block[place]] != KEPT:
            continue
        struck = hit_RC[place] & (duplicate_of[others] == KEPT)
        duplicate_of[others[struck]] = block[place]
        cosine[others[struck]] = similar_RC[place, struck]


def _roots(duplicate_of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Follow each mark to a vector that is kept: its first one may have been struck out later."""
    while True:
        step = np.where(duplicate_of == KEPT, KEPT, duplicate_of[duplicate_of])
        if np.all(step == KEPT):
            return duplicate_of
        duplicate_of = np.where(step == KEPT, duplicate_of, step)
