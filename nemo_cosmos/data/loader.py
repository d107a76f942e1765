"""Which sample comes when: a pure function of the seed and the number of the batch.

The order is one list of global batches, the same for any number of ranks and workers. Rank r of w
takes its share of each global batch, so a run that stopped after n samples goes on with sample n
on any number of ranks; its whole state is that one number.

1. Each epoch, the samples of each bucket are shuffled and cut into global batches; the last one is
   filled up with samples from the beginning of the same shuffle, so nothing is left out.
2. The batches of all buckets are shuffled among each other.
3. Where images and videos are mixed by ratio, each kind has its own endless sequence of epochs, and
   batch i is of images when ``floor((i + 1) * ratio)`` passes ``floor(i * ratio)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from nemo_cosmos.errors import ConfigError, SampleError


@dataclass(frozen=True)
class Draw:
    """One sample at one moment of training.

    Attributes:
        index: which sample.
        position: how many samples were drawn before it, over all ranks since training began; what
            is random about the sample (crops) is seeded with it.
    """

    index: int
    position: int


class BatchOrder(Protocol):
    """What decides which samples form global batch ``number``."""

    batch_size: int

    def batch(self, number: int) -> NDArray[np.int64]:
        """Indices of the samples of one global batch."""
        ...


class SampleOrder:
    """Shuffled epochs of bucketed samples.

    Args:
        buckets: indices of the samples of each bucket; a batch never mixes two buckets.
        batch_size: global batch size.
        seed: of the shuffles.
        shuffle: off for validation.

    Raises:
        SampleError: there is no sample.
    """

    def __init__(
        self,
        buckets: Sequence[NDArray[np.int64]],
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        self.buckets = [bucket for bucket in buckets if len(bucket)]
        if not self.buckets:
            raise SampleError(
                "There is no sample to train on; expected at least one. Check the data folder and "
                "the shortest clip length it must have."
            )
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.batches_per_epoch = sum(-(-len(bucket) // batch_size) for bucket in self.buckets)
        # An epoch is shuffled once, not once a batch; two, as prefetching looks over the edge.
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def batch(self, number: int) -> NDArray[np.int64]:
        """Indices of the samples of global batch ``number``, counted from 0 over all epochs."""
        epoch, place = divmod(number, self.batches_per_epoch)
        batch: NDArray[np.int64] = self._epoch(epoch)[place]
        return batch

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache behind when a worker process is started."""
        return {name: value for name, value in self.__dict__.items() if name != "_epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def _make_epoch(self, epoch: int) -> NDArray[np.int64]:
        """All batches of an epoch, ``(batches_per_epoch, batch_size)``."""
        random = np.random.default_rng([self.seed, epoch])
        batches = []
        for bucket in self.buckets:
            order = random.permutation(bucket) if self.shuffle else bucket
            num_batches = -(-len(bucket) // self.batch_size)
            filled = np.resize(order, num_batches * self.batch_size)
            batches.append(filled.reshape(num_batches, self.batch_size))
        stacked = np.concatenate(batches)
        return random.permutation(stacked, axis=0) if self.shuffle else stacked


class MixedOrder:
    """Batches of images between batches of videos, by a fixed ratio.

    Args:
        videos: order of the videos.
        images: order of the images, with the same batch size.
        image_ratio: share of batches that are of images, above 0 and below 1.

    Raises:
        ConfigError: the ratio is no share.
    """

    def __init__(self, videos: SampleOrder, images: SampleOrder, image_ratio: float) -> None:
        check_image_ratio(image_ratio)
        self.videos, self.images, self.image_ratio = videos, images, image_ratio
        self.batch_size = videos.batch_size
        self.batches_per_epoch = videos.batches_per_epoch

    def batch(self, number: int) -> NDArray[np.int64]:
        """Indices of the samples of global batch ``number``."""
        images_before = math.floor(number * self.image_ratio)
        if math.floor((number + 1) * self.image_ratio) > images_before:
            return self.images.batch(images_before)
        return self.videos.batch(number - images_before)


def check_image_ratio(image_ratio: float) -> None:
    """Refuse what is no share of batches.

    Raises:
        ConfigError: it is below 0 or not below 1.
    """
    if not 0 <= image_ratio < 1:
        raise ConfigError(
            f"image_ratio is {image_ratio}; expected a share of the batches, at least 0 and below "
            "1, for example 0.2 for one batch of images in five."
        )


class RankBatches(Sampler[list[Draw]]):
    """The micro-batches of one rank: a batch sampler for ``torch.utils.data.DataLoader``.

    Args:
        order: the global batches.
        micro_batch_size: samples of one micro-batch on one rank.
        rank: data-parallel rank.
        world_size: number of data-parallel ranks.
        start: samples that all ranks together have consumed before.
        num_batches: end after this many global batches; endless by default.

    Raises:
        ConfigError: the global batch does not divide among the ranks.
    """

    def __init__(
        self,
        order: BatchOrder,
        *,
        micro_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        num_batches: int | None = None,
    ) -> None:
        self.order = order
        self.micro_batch_size = micro_batch_size
        self.rank, self.world_size = rank, world_size
        self.position = start
        self.num_batches = num_batches
        per_round = micro_batch_size * world_size
        if micro_batch_size < 1 or order.batch_size % per_round:
            raise ConfigError(
                f"The global batch size {order.batch_size} is not a multiple of the micro-batch "
                f"size {micro_batch_size} times {world_size} data-parallel ranks ({per_round}). "
                f"The nearest that are: {_nearest_multiples(order.batch_size, per_round)}."
            )
        self.micro_batches = order.batch_size // per_round

    def __iter__(self) -> Iterator[list[Draw]]:
        # A start inside a global batch comes from another batch size: begin with the next one.
        first = -(-self.position // self.order.batch_size)
        number = first
        while self.num_batches is None or number < first + self.num_batches:
            batch = self.order.batch(number)
            base = number * self.order.batch_size
            for turn in range(self.micro_batches):
                begin = (turn * self.world_size + self.rank) * self.micro_batch_size
                places = range(begin, begin + self.micro_batch_size)
                self.position = base + (turn + 1) * self.micro_batch_size * self.world_size
                yield [Draw(int(batch[place]), base + place) for place in places]
            number += 1

    def state_dict(self) -> dict[str, int]:
        """Samples consumed by all ranks together; the same on every rank.

        It counts what was handed out: with prefetching workers, count what was consumed instead.
        """
        return {"consumed_samples": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the samples that were consumed, whatever the number of ranks was."""
        self.position = state["consumed_samples"]


class FiniteRankBatches(RankBatches):
    """:class:`RankBatches` with an end, so with a length, for validation: each pass is the same."""

    def __iter__(self) -> Iterator[list[Draw]]:
        self.position = 0
        return super().__iter__()

    def __len__(self) -> int:
        """Number of micro-batches of this rank."""
        return (self.num_batches or 0) * self.micro_batches


def _nearest_multiples(value: int, step: int) -> str:
    below = value // step * step
    return f"{below} and {below + step}" if below else str(step)
