"""All samples of some folders under one numbering, known from their indexes alone.

A sample's number is its place when all shards are laid end to end in alphabetical order. Memory
holds two numbers for each shard and bucket, and the indexes of the shards that were read last, so
that a corpus of any size starts after one look at each index.
"""

from __future__ import annotations

import bisect
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.batch import Views
from nemo_cosmos.data.loading.buckets import Bucket
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.bad_shards import BadShards
from nemo_cosmos.data.shards.index import ShardIndex, load_index, stored_index
from nemo_cosmos.data.shards.writer import list_shards
from nemo_cosmos.errors import MissingFileError, SampleError, counted

INDEXES_IN_MEMORY = 64
INDEX_THREADS = 16  # they wait for storage

BucketsOf = Callable[[int, int, int, Views], Iterable[Bucket]]
"""Frames, height, width and views of a clip to the buckets that it can serve in."""


class Shard(NamedTuple):
    """One shard of a corpus.

    Attributes:
        name: number of the folder and path in it: what stays when the folder is moved.
        location: path or URL.
    """

    name: str
    location: str


class Corpus:
    """Samples of folders of shards.

    Args:
        folders: paths or URLs, of folders or of single tars.
        required: suffixes that every sample must have.
        buckets_of: function that sorts samples into buckets.
        bad: the counter of shards that cannot be indexed; they are left out.
        excluded: names of the shards that were left out when the run began, for a run that
            resumes. Its order must not change, so a shard that has become bad since then keeps its
            place as long as its index exists.

    Attributes:
        shards: the shards that have a place in the order.
        starts: number of the first sample of each shard, followed by the number of all samples.
        counts: samples of each bucket in each shard.
        excluded: names of the shards that are left out.

    Raises:
        MissingFileError: a folder does not exist or holds no shard.
        SampleError: a sample lacks a required file, or more shards are bad than allowed.
    """

    def __init__(
        self,
        folders: Sequence[str | os.PathLike[str]],
        *,
        required: Sequence[str],
        buckets_of: BucketsOf,
        bad: BadShards,
        excluded: Iterable[str] | None = None,
    ) -> None:
        self.required = tuple(required)
        self.buckets_of = buckets_of
        self.shards: list[Shard] = []
        self.excluded = set(excluded or ())
        listed = [shard for shard in _list(folders) if shard.name not in self.excluded]
        per_shard: list[dict[Bucket, int]] = []
        sizes: list[int] = []
        with ThreadPoolExecutor(INDEX_THREADS) as pool:
            for shard, found in zip(listed, pool.map(self._survey, listed), strict=True):
                survey = None if isinstance(found, Exception) else found
                if isinstance(found, Exception):
                    bad.add(shard.location, str(found))
                    survey = self._stored_survey(shard) if excluded is not None else None
                if survey is None:
                    self.excluded.add(shard.name)
                    continue
                self.shards.append(shard)
                sizes.append(survey[0])
                per_shard.append(survey[1])
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        buckets = sorted({bucket for counts in per_shard for bucket in counts})
        self.counts = {
            bucket: np.array([counts.get(bucket, 0) for counts in per_shard], np.int64)
            for bucket in buckets
        }
        self._prepare()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def sample(self, number: int) -> Sample:
        """Return a sample by its number.

        Raises:
            MissingFileError: its shard is gone.
            SampleError: its shard is damaged, or has been replaced.
        """
        shard = self.shard_of(number)
        return Sample(self._index(shard), number - self._starts[shard])

    def shard_of(self, number: int) -> int:
        """Return the number of the shard that holds a sample."""
        return bisect.bisect_right(self._starts, number) - 1

    def rows(self, shard: int, bucket: Bucket) -> NDArray[np.int64]:
        """Return the places of a bucket's samples inside a shard."""
        size = self._starts[shard + 1] - self._starts[shard]
        if self.counts[bucket][shard] == size:
            return np.arange(size, dtype=np.int64)
        chosen, which = _sorted(self._index(shard), self.buckets_of)
        rows: NDArray[np.int64] = np.flatnonzero(
            np.array([bucket in buckets for buckets in chosen])[which]
        )
        return rows

    def nth(self, bucket: Bucket, place: int) -> int:
        """Return the number of a bucket's n-th sample, counted through all shards."""
        ends = np.cumsum(self.counts[bucket])
        shard = int(np.searchsorted(ends, place, side="right"))
        inside = place - int(ends[shard] - self.counts[bucket][shard])
        return self._starts[shard] + int(self.rows(shard, bucket)[inside])

    def latent_shapes(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the shapes (C, T, H, W) of the latents of some samples, ``(N, 4)``."""
        shards = np.searchsorted(self.starts, numbers, side="right") - 1
        shapes = np.empty((len(numbers), 4), np.int32)
        for shard in np.unique(shards):
            mine = shards == shard
            rows = numbers[mine] - self._starts[shard]
            shapes[mine] = self._index(int(shard)).latent_N4[rows]
        return shapes

    def fingerprint(self) -> str:
        """Return a digest of what the order depends on: names, sizes and buckets of shards."""
        table = [
            [shard.name, int(size), [int(counts[row]) for counts in self.counts.values()]]
            for row, (shard, size) in enumerate(zip(self.shards, np.diff(self.starts), strict=True))
        ]
        return hashlib.sha256(repr([list(self.counts), table]).encode()).hexdigest()[:16]

    def _survey(self, shard: Shard) -> tuple[int, dict[Bucket, int]] | Exception:
        """Number of samples, by bucket, or why the shard cannot be indexed."""
        try:
            index = load_index(shard.location)
        except (MissingFileError, SampleError) as error:
            return error
        for suffix in self.required:  # another kind of data, not damage: no limit allows it
            row = index.row_without(suffix)
            if row is not None:
                Sample(index, row).read(suffix)
        try:
            return self._count(index)
        except SampleError as error:
            return error

    def _stored_survey(self, shard: Shard) -> tuple[int, dict[Bucket, int]] | None:
        index = stored_index(shard.location)
        return None if index is None else self._count(index)

    def _count(self, index: ShardIndex) -> tuple[int, dict[Bucket, int]]:
        shapeless = np.flatnonzero((index.shape_N3 < 1).any(1))
        if len(shapeless):
            _ = Sample(index, int(shapeless[0])).record  # raises with the reason
        chosen, which = _sorted(index, self.buckets_of)
        counts: dict[Bucket, int] = {}
        for buckets, count in zip(chosen, np.bincount(which, minlength=len(chosen)), strict=True):
            for bucket in buckets:
                counts[bucket] = counts.get(bucket, 0) + int(count)
        return len(index), counts

    def _load(self, shard: int) -> ShardIndex:
        location = self.shards[shard].location
        # The index of the run's start, even if the shard has become bad since: the order must not
        # change, and reading a sample reports the damage.
        index = stored_index(location) or load_index(location)
        size = self._starts[shard + 1] - self._starts[shard]
        if len(index) != size:
            raise SampleError(
                f"The shard '{location}' has {counted(len(index), 'sample')}, but had {size} "
                "when training "
                "began. Do not write to shards that are being read; put the old one back."
            )
        return index

    def _prepare(self) -> None:
        self._starts: list[int] = self.starts.tolist()
        self._index = lru_cache(INDEXES_IN_MEMORY)(self._load)

    def __getstate__(self) -> dict[str, object]:
        """Leave the cache behind when a worker process is started."""
        return {name: value for name, value in self.__dict__.items() if name != "_index"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._prepare()


def _sorted(
    index: ShardIndex, buckets_of: BucketsOf
) -> tuple[list[set[Bucket]], NDArray[np.int64]]:
    """Return the buckets of each distinct shape, and which shape each sample has."""
    shapes, which = np.unique(index.shape_N3, axis=0, return_inverse=True)
    buckets = [
        set(buckets_of(num_frames, height, width, index.views))
        for num_frames, height, width in shapes.tolist()
    ]
    return buckets, which.reshape(-1)


def _list(folders: Sequence[str | os.PathLike[str]]) -> list[Shard]:
    shards = []
    for number, folder in enumerate(folders):
        root = os.fspath(folder)
        is_tar = root.endswith(".tar")  # one that is missing counts as bad; a folder is an error
        for location in [root] if is_tar else list_shards(root):
            name = location.rpartition("/")[2] if is_tar else _inside(location, root)
            shards.append(Shard(f"{number}/{name}", location))
    return shards


def _inside(location: str, root: str) -> str:
    """Path of a shard in its folder; storage may spell either root differently."""
    _, _, inside = location.partition(root.rstrip("/").rpartition("/")[2] + "/")
    return inside or location
