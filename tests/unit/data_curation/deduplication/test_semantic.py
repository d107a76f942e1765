"""Semantic deduplication against brute force, on planted copies, and with earlier runs."""

from __future__ import annotations

import numpy as np
import pytest

from data_curation.deduplication.clusters import assign, choose_num_clusters, fit_centres
from data_curation.deduplication.semantic import KEPT, semantic_duplicates
from data_curation.deduplication.vectors import VectorFile, write_vectors
from nemo_cosmos.errors import SampleError


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def vector_file(tmp_path):
    def vector_file(vectors: np.ndarray) -> VectorFile:
        blocks = np.array_split(vectors.astype(np.float16), 3)
        write_vectors(tmp_path / "v.npy", blocks, *vectors.shape)
        return VectorFile(tmp_path / "v.npy")

    return vector_file


def planted(num: int = 3000, dim: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around scenes, a third of them copies of others; and the group of each."""
    rng = np.random.default_rng(seed)
    num_originals = 2 * num // 3
    scenes = rng.standard_normal((num // 60, dim))
    own = rng.standard_normal((num_originals, dim))
    originals = unit(scenes[np.arange(num_originals) % len(scenes)] + 0.8 * own)
    source = rng.integers(0, num_originals, num - num_originals)
    noise = 0.06 * unit(rng.standard_normal((len(source), dim)))
    copies = unit(originals[source] + noise)
    return np.concatenate([originals, copies]), np.concatenate([np.arange(num_originals), source])


def brute_force(vectors: np.ndarray, rank: np.ndarray, threshold: float) -> np.ndarray:
    """Keep a vector unless a better one that is kept is alike."""
    vectors = vectors.astype(np.float16).astype(np.float32)
    kept: list[int] = []
    for row in np.argsort(rank):
        if not kept or (vectors[kept] @ vectors[row]).max() < threshold:
            kept.append(int(row))
    return np.sort(kept)


def test_one_cluster_equals_brute_force(vector_file):
    vectors, _ = planted(900)
    rank = np.random.default_rng(1).permutation(len(vectors))
    duplicate_of, _ = semantic_duplicates(vector_file(vectors), rank, 0.97, num_clusters=1)
    kept = np.flatnonzero(duplicate_of == KEPT)
    assert np.array_equal(kept, brute_force(vectors, rank, 0.97))


def test_clusters_leave_no_planted_copy_and_take_nothing_else(vector_file):
    vectors, group = planted()
    rank = np.random.default_rng(1).permutation(len(vectors))
    file = vector_file(vectors)
    assert choose_num_clusters(len(file), len(file)) > 50
    duplicate_of, cosine = semantic_duplicates(file, rank, 0.97)
    kept = duplicate_of == KEPT
    assert kept.sum() - len(np.unique(group[kept])) <= len(vectors) // 1000
    removed = np.flatnonzero(~kept)
    assert np.array_equal(group[removed], group[duplicate_of[removed]])
    assert (rank[duplicate_of[removed]] < rank[removed]).all()
    assert (cosine[removed] >= 0.97).all() and (cosine[kept] == 0).all()


def test_a_pair_that_a_border_parts_is_compared(vector_file):
    # Every vector lies near a border here: without neighbours a part of the pairs would be lost.
    rng = np.random.default_rng(0)
    originals = unit(rng.standard_normal((500, 3)))
    copies = unit(originals + 0.02 * unit(rng.standard_normal((500, 3))))
    file = vector_file(np.concatenate([originals, copies]))
    radius = 0.05
    rows, clusters = assign(file, fit_centres(file, 20), radius)
    together = [set(clusters[rows == row]) for row in range(1000)]
    parted = [not (together[row] & together[row + 500]) for row in range(500)]
    assert not any(parted)
    only_home, own = assign(file, fit_centres(file, 20), 0.0)
    assert len(only_home) == 1000
    assert (own[np.argsort(only_home)][:500] != own[np.argsort(only_home)][500:]).any()


def test_the_same_input_gives_the_same_result(vector_file):
    vectors, _ = planted(seed=3)
    rank = np.arange(len(vectors))
    first = semantic_duplicates(vector_file(vectors), rank, 0.97)[0]
    assert np.array_equal(first, semantic_duplicates(vector_file(vectors), rank, 0.97)[0])


@pytest.mark.parametrize("num_clusters", [1, 8])
def test_clips_of_earlier_runs_are_kept_and_win(vector_file, num_clusters):
    vectors, group = planted(600)
    known = np.concatenate([vectors[:100], vectors[:3]])  # alike among themselves: left alone
    everything = np.concatenate([known, vectors])
    rank = np.concatenate([np.arange(103), 103 + np.arange(600)[::-1]])
    duplicate_of, _ = semantic_duplicates(
        vector_file(everything), rank, 0.97, num_known=103, num_clusters=num_clusters
    )
    assert (duplicate_of[:103] == KEPT).all()
    seen = group < 100
    assert (duplicate_of[103:][seen] != KEPT).all()
    assert (duplicate_of[103:][seen] < 103).all()


def test_a_chain_ends_at_one_that_is_kept(vector_file):
    angles = np.deg2rad([0, 10, 20, 30, 40])
    line = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    duplicate_of, _ = semantic_duplicates(vector_file(line), np.arange(5), np.cos(np.deg2rad(12)))
    assert duplicate_of.tolist() == [KEPT, 0, KEPT, 2, KEPT]


def test_few_vectors_and_none(vector_file):
    one = vector_file(np.ones((1, 4)) / 2)
    assert semantic_duplicates(one, np.zeros(1, int), 0.9)[0].tolist() == [KEPT]
    two = vector_file(np.ones((2, 4)) / 2)
    assert semantic_duplicates(two, np.array([1, 0]), 0.9)[0].tolist() == [1, KEPT]


def test_the_number_of_clusters_grows_with_the_root_up_to_ten_thousand():
    found = [choose_num_clusters(num, num) for num in (1, 100, 10**6, 10**9)]
    assert found == [1, 10, 1000, 10_000]
    assert choose_num_clusters(10**6, 500) == 1


def test_a_file_of_something_else_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    (tmp_path / "b.npy").write_bytes(b"no array")
    for name in ("a.npy", "b.npy"):
        with pytest.raises(SampleError, match="vectors"):
            VectorFile(tmp_path / name)
