"""Which samples come when: a pure function of the seed and the number of the global batch.

No part of it knows about ranks or workers, so a run that stopped after n global batches resumes
with batch n on any number of either.

1. The samples of one bucket form an endless stream of passes (:class:`Stream`). A pass shuffles the
   shards, cuts their sequence into blocks of about ``window`` samples, and shuffles the samples of
   each block; so it needs the memory of one block, and reads a few shards at a time.
2. A global batch is the next ``batch_size`` samples of one stream, across the end of a pass if
   necessary. Each pass shows each sample exactly once; nothing is repeated, dropped or padded.
3. The order of the buckets' batches is shuffled once per epoch (:class:`BucketOrder`). A batch
   belongs to the epoch in which its last sample is drawn.
4. If images and videos are mixed by ratio, each kind has its own order, and batch i is of images
   when ``floor((i + 1) * ratio)`` passes ``floor(i * ratio)`` (:class:`MixedOrder`).

With another global batch size the same streams continue from their position:
:meth:`BatchOrder.drawn` gives the position of each, and a new order starts there.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.data.loading.buckets import Bucket
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.options import check_value

DEFAULT_WINDOW = 65_536
Numbers = NDArray[np.int64]


class SampleTable(Protocol):
    """What an order needs to know about the samples; ``data.loading.corpus.Corpus`` has it."""

    @property
    def starts(self) -> Numbers:
        """Number of the first sample of each shard."""
        ...

    @property
    def counts(self) -> Mapping[Bucket, Numbers]:
        """Samples of each bucket in each shard."""
        ...

    def rows(self, shard: int, bucket: Bucket) -> Numbers:
        """Places of a bucket's samples inside a shard."""
        ...


class Batch(NamedTuple):
    """One global batch.

    Attributes:
        bucket: the bucket that all its samples share.
        numbers: numbers of its samples.
    """

    bucket: Bucket
    numbers: Numbers


class BatchOrder(Protocol):
    """What decides which samples form a global batch."""

    batch_size: int

    def batch(self, number: int) -> Batch:
        """Global batch ``number``, counted from 0."""
        ...

    def drawn(self, number: int) -> dict[str, int]:
        """Samples of each stream that were drawn before global batch ``number``."""
        ...


class Stream:
    """Endless passes over the samples of one bucket.

    Args:
        table: the samples.
        bucket: the bucket to draw from.
        seed: seed of the shuffles.
        window: samples that are shuffled among each other; at least one shard.
        shuffle: whether to shuffle; off for validation.
    """

    def __init__(
        self,
        table: SampleTable,
        bucket: Bucket,
        *,
        seed: int = 0,
        window: int = DEFAULT_WINDOW,
        shuffle: bool = True,
    ) -> None:
        self.table, self.bucket = table, bucket
        self.seed, self.window, self.shuffle = seed, window, shuffle
        self.shards: Numbers = np.flatnonzero(table.counts[bucket])
        self.num_samples = int(table.counts[bucket].sum())
        # Two of each, because a batch may cross the end of a block.
        self._blocks = lru_cache(maxsize=2)(self._make_blocks)
        self._block = lru_cache(maxsize=2)(self._make_block)

    @property
    def name(self) -> str:
        """What it is called in a checkpoint."""
        return f"{self.bucket.num_frames}x{self.bucket.height}x{self.bucket.width}"

    def take(self, begin: int, count: int) -> Numbers:
        """Numbers of the samples from place ``begin`` of the stream on."""
        parts = []
        while count:
            epoch, place = divmod(begin, self.num_samples)
            first_places, _ = self._blocks(epoch)
            block = bisect.bisect_right(first_places, place) - 1
            inside = place - first_places[block]
            part = self._block(epoch, block)[inside : inside + count]
            parts.append(part)
            begin, count = begin + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _make_blocks(self, epoch: int) -> tuple[list[int], list[Numbers]]:
        """Place of the first sample of each block of a pass, and the shards of each."""
        shards = self.shards
        if self.shuffle:
            shards = self._random(epoch).permutation(shards)
        sizes = self.table.counts[self.bucket][shards]
        begins = np.cumsum(sizes) - sizes
        _, firsts = np.unique(begins // self.window, return_index=True)
        return begins[firsts].tolist(), np.split(shards, firsts[1:])

    def _make_block(self, epoch: int, block: int) -> Numbers:
        """Numbers of the samples of one block, in their order."""
        table, shards = self.table, self._blocks(epoch)[1][block]
        numbers = np.concatenate(
            [table.starts[shard] + table.rows(int(shard), self.bucket) for shard in shards]
        )
        return self._random(epoch, block).permutation(numbers) if self.shuffle else numbers

    def _random(self, *place: int) -> np.random.Generator:
        bucket = self.bucket
        return np.random.default_rng(
            [self.seed, bucket.num_frames, bucket.height, bucket.width, *place]
        )


class BucketOrder:
    """Batches of all buckets, shuffled among each other.

    Args:
        table: the samples.
        buckets: the buckets to draw from.
        batch_size: global batch size.
        seed: seed of the shuffles.
        window: samples that are shuffled among each other.
        drawn: number of samples already drawn from each stream; see :meth:`drawn`.

    Raises:
        SampleError: there is no sample.
    """

    def __init__(
        self,
        table: SampleTable,
        buckets: Sequence[Bucket],
        *,
        batch_size: int,
        seed: int = 0,
        window: int = DEFAULT_WINDOW,
        drawn: Mapping[str, int] | None = None,
    ) -> None:
        streams = [Stream(table, bucket, seed=seed, window=window) for bucket in buckets]
        self.streams = [stream for stream in streams if stream.num_samples]
        if not self.streams:
            raise SampleError(
                "There is no sample to train on; expected at least one. Check the data folder and "
                "the shortest clip length it must have."
            )
        self.batch_size = batch_size
        self.seed = seed
        self._sizes = np.array([stream.num_samples for stream in self.streams])
        before = drawn or {}
        self._drawn = np.array([before.get(stream.name, 0) for stream in self.streams])
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def batch(self, number: int) -> Batch:
        """Global batch ``number``, counted from 0."""
        epoch, place = self._find(number)
        which, turn = self._epoch(epoch)
        stream = self.streams[which[place]]
        done = self._batches_before(epoch)[which[place]] + turn[place]
        begin = self._drawn[which[place]] + done * self.batch_size
        return Batch(stream.bucket, stream.take(int(begin), self.batch_size))

    def drawn(self, number: int) -> dict[str, int]:
        """Samples of each stream that were drawn before global batch ``number``."""
        epoch, place = self._find(number)
        which, _ = self._epoch(epoch)
        batches = self._batches_before(epoch) + np.bincount(
            which[:place], minlength=len(self.streams)
        )
        total = self._drawn + batches * self.batch_size
        return {stream.name: int(count) for stream, count in zip(self.streams, total, strict=True)}

    def _find(self, number: int) -> tuple[int, int]:
        """Epoch of a batch, and its place there."""

        def batches_until(epoch: int) -> int:
            return int(self._batches_before(epoch + 1).sum())

        high = 1
        while batches_until(high) <= number:
            high *= 2
        epoch = bisect.bisect_right(range(high + 1), number, key=batches_until)
        return epoch, number - int(self._batches_before(epoch).sum())

    def _batches_before(self, epoch: int) -> Numbers:
        """Batches of each stream whose last sample comes before an epoch."""
        samples = np.maximum(epoch * self._sizes - self._drawn, 0)
        batches: Numbers = samples // self.batch_size
        return batches

    def _make_epoch(self, epoch: int) -> tuple[Numbers, Numbers]:
        """Stream of each batch of an epoch, and how many of that stream come before it there."""
        counts = self._batches_before(epoch + 1) - self._batches_before(epoch)
        which = np.repeat(np.arange(len(counts)), counts)
        which = np.random.default_rng([self.seed, epoch]).permutation(which)
        by_stream = np.argsort(which, kind="stable")
        turn = np.empty_like(which)
        turn[by_stream] = np.concatenate([np.arange(count) for count in counts])
        return which, turn


class MixedOrder:
    """Batches of images between batches of videos, by a fixed ratio.

    Args:
        videos: order of the videos.
        images: order of the images, with the same batch size.
        image_ratio: share of batches that are of images, above 0 and below 1.

    Raises:
        ConfigError: the ratio is out of range.
    """

    def __init__(self, videos: BatchOrder, images: BatchOrder, image_ratio: float) -> None:
        check_image_ratio(image_ratio)
        self.videos, self.images, self.image_ratio = videos, images, image_ratio
        self.batch_size = videos.batch_size

    def batch(self, number: int) -> Batch:
        """Global batch ``number``, counted from 0."""
        images_before = math.floor(number * self.image_ratio)
        if math.floor((number + 1) * self.image_ratio) > images_before:
            return self.images.batch(images_before)
        return self.videos.batch(number - images_before)

    def drawn(self, number: int) -> dict[str, int]:
        """Samples of each stream that were drawn before global batch ``number``."""
        images_before = math.floor(number * self.image_ratio)
        return self.videos.drawn(number - images_before) | self.images.drawn(images_before)


class OnePass:
    """Every sample once, bucket by bucket, for validation.

    The last batch of a bucket is filled from the bucket's beginning, so that all ranks get equally
    many samples.
    """

    def __init__(self, table: SampleTable, buckets: Sequence[Bucket], batch_size: int) -> None:
        self.batch_size = batch_size
        self._batches = [
            (stream, begin)
            for stream in (Stream(table, bucket, shuffle=False) for bucket in buckets)
            for begin in range(0, stream.num_samples, batch_size)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def batch(self, number: int) -> Batch:
        """Global batch ``number``, counted from 0."""
        stream, begin = self._batches[number]
        return Batch(stream.bucket, stream.take(begin, self.batch_size))

    def drawn(self, number: int) -> dict[str, int]:
        """Return nothing: a validation is never resumed."""
        return {}


def check_image_ratio(image_ratio: float) -> None:
    """Require a share of batches.

    Raises:
        ConfigError: it is below 0 or not below 1.
    """
    check_value("image_ratio", image_ratio, float)
    if not 0 <= image_ratio < 1:
        raise ConfigError(
            f"image_ratio is {image_ratio}; expected a share of the batches, at least 0 and below "
            "1, for example 0.2 for one batch of images in five."
        )
