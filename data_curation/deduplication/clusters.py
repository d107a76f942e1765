"""Spherical k-means over vectors of length one, read block by block from a file.

Shape suffixes: N vectors, D channels, K clusters, R rows of a block, M nearest clusters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from data_curation.deduplication.vectors import VectorFile

#: The most clusters, as in SemDeDup's setting for the paper's data.
MAX_CLUSTERS = 10_000
#: Vectors per cluster that the centres are learnt from, and most bytes of them.
SAMPLES_PER_CLUSTER, MAX_SAMPLE_BYTES = 64, 512 * 1024 * 1024
NUM_ROUNDS = 8
#: Clusters beside its own that a vector near their borders is compared in.
MAX_NEIGHBOURS = 3
#: Similarities held at once, in numbers.
BLOCK_NUMBERS = 16 * 1024 * 1024


def choose_num_clusters(num_vectors: int, num_new: int) -> int:
    """How many clusters make the comparison of ``num_new`` vectors with all the cheapest.

    Assigning costs N K, comparing within clusters N N / K: least at K = sqrt(N). For a few new
    vectors among many known ones it is cheaper to compare them with all.
    """
    best = min(MAX_CLUSTERS, max(1, math.isqrt(num_vectors)))
    return 1 if num_new <= 3 * best else best


def fit_centres(vectors: VectorFile, num_clusters: int, seed: int = 0) -> torch.Tensor:
    """Learn centres of length one ``(K, D)`` on a sample; the same input gives the same centres.

    A centre that no vector is nearest to restarts at the vector that is furthest from its own.
    """
    generator = np.random.default_rng(seed)
    most = max(num_clusters, MAX_SAMPLE_BYTES // (4 * vectors.dim))
    count = min(len(vectors), SAMPLES_PER_CLUSTER * num_clusters, most)
    rows = np.sort(generator.choice(len(vectors), count, replace=False))
    sample_ND = torch.from_numpy(vectors.read(rows))
    centres_KD = sample_ND[torch.from_numpy(generator.choice(count, num_clusters, replace=False))]
    for _ in range(NUM_ROUNDS):
        home_N = torch.empty(count, dtype=torch.int64)
        nearness_N = torch.empty(count)
        for block in _blocks(count, num_clusters):
            nearness_N[block], home_N[block] = (sample_ND[block] @ centres_KD.T).max(dim=1)
        sums_KD = torch.zeros_like(centres_KD).index_add_(0, home_N, sample_ND)
        empty_K = torch.bincount(home_N, minlength=num_clusters) == 0
        strays = torch.argsort(nearness_N, stable=True)[: int(empty_K.sum())]
        sums_KD[empty_K] = sample_ND[strays]
        centres_KD = torch.nn.functional.normalize(sums_KD, dim=1)
    return centres_KD


def assign(
    vectors: VectorFile, centres_KD: torch.Tensor, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In which clusters each vector is to be compared.

    Two vectors closer than ``radius`` may fall on two sides of a border. Then one of them is within
    half the radius of it, so a vector counts among the neighbours whose border is so near, too; at
    most :data:`MAX_NEIGHBOURS` of them, nearest first.

    Returns:
        Rows and their clusters, sorted by cluster and row; a row comes once for each cluster.
    """
    num_clusters = len(centres_KD)
    width_KK = torch.cdist(centres_KD, centres_KD) if num_clusters > 1 else torch.ones(1, 1)
    num_nearest = min(1 + MAX_NEIGHBOURS, num_clusters)
    found_rows, found_clusters = [], []
    for block in _blocks(len(vectors), num_clusters):
        near_RK = torch.from_numpy(vectors.read(block)) @ centres_KD.T
        near_RM, cluster_RM = near_RK.topk(num_nearest, dim=1)
        border_RM = (near_RM[:, :1] - near_RM) / width_KK[cluster_RM[:, :1], cluster_RM].clamp(1e-6)
        within_RM = border_RM <= radius / 2
        within_RM[:, 0] = True
        rows, places = torch.nonzero(within_RM, as_tuple=True)
        found_rows.append(rows + block.start)
        found_clusters.append(cluster_RM[rows, places])
    rows_P, clusters_P = torch.cat(found_rows).numpy(), torch.cat(found_clusters).numpy()
    order = np.lexsort((rows_P, clusters_P))
    return rows_P[order], clusters_P[order]


def _blocks(count: int, num_clusters: int) -> Iterator[slice]:
    size = max(256, min(16384, BLOCK_NUMBERS // num_clusters))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
