"""The share of one data-parallel rank in the global order, and how it is loaded.

Rank r of w takes its share of each global batch. What a sample is given at random (its place in a
clip, what stands in for it when it is damaged) depends on its position in the global order alone,
so neither ranks nor worker processes change what a model sees.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from nemo_cosmos.data.loading.buckets import ANY_SHAPE, Bucket
from nemo_cosmos.data.loading.corpus import Corpus
from nemo_cosmos.data.order.stream import BatchOrder, OnePass
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.bad_shards import BadShards
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from nemo_cosmos.storage import is_url

MAX_REPLACEMENTS = 100
_SKIPPED = "skipped"


class SampleDraw(NamedTuple):
    """One sample at one moment of training.

    Attributes:
        number: of the sample in its corpus.
        bucket: in which it is drawn.
        position: how many samples were drawn before it, over all ranks since training began; what
            is random about the sample is seeded with it.
    """

    number: int
    bucket: Bucket
    position: int


class ShardDataset(Dataset[dict[str, Any]]):
    """Samples of a corpus as tensors; a subclass says how one is decoded.

    Args:
        corpus: the samples.
        seed: of what is random about a sample.
    """

    def __init__(self, corpus: Corpus, seed: int = 0) -> None:
        self.corpus = corpus
        self.seed = seed

    def __len__(self) -> int:
        return len(self.corpus)

    def decode(self, sample: Sample, draw: SampleDraw) -> dict[str, Any]:
        """Turn a sample into tensors.

        Raises:
            MissingFileError: its shard is gone.
            SampleError: it is damaged.
        """
        raise NotImplementedError

    def __getitem__(self, draw: SampleDraw) -> dict[str, Any]:
        """Return a sample, or where it cannot be read another of its bucket that is no larger.

        What could not be read is reported in the item; :class:`ShardLoader` takes it out and counts
        it in the training process, whichever worker met it.
        """
        reports: list[tuple[str, str]] = []
        for number in itertools.chain([draw.number], self._others(draw)):
            try:
                item = self.decode(self.corpus.sample(number), draw)
                return {**item, _SKIPPED: reports}
            except (MissingFileError, SampleError) as error:
                shard = self.corpus.shards[self.corpus.shard_of(number)]
                reports.append((shard.location, str(error)))
        return {_SKIPPED: reports}

    def _others(self, draw: SampleDraw) -> Iterator[int]:
        """What may stand in for a sample, drawn by its position."""
        random = np.random.default_rng([self.seed, draw.position])
        num_candidates = int(self.corpus.counts[draw.bucket].sum())
        for _ in range(MAX_REPLACEMENTS):
            number = self.corpus.nth(draw.bucket, int(random.integers(num_candidates)))
            if draw.bucket != ANY_SHAPE or self._is_no_larger(number, draw.number):
                yield number

    def _is_no_larger(self, number: int, than: int) -> bool:
        """Whether a sample fits where another was packed."""
        sizes = self.corpus.latent_shapes(np.array([number, than])).prod(axis=1)
        return bool(sizes[0] <= sizes[1])


class RankBatches(Sampler[list[SampleDraw]]):
    """The micro-batches of one rank: a batch sampler for ``torch.utils.data.DataLoader``.

    Args:
        order: the global batches.
        micro_batch_size: samples of one micro-batch on one rank.
        rank: data-parallel rank.
        world_size: number of data-parallel ranks.
        first: number of the global batch to begin with.
        samples_before: what was drawn before global batch 0.

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
        first: int = 0,
        samples_before: int = 0,
    ) -> None:
        self.order = order
        self.micro_batch_size = micro_batch_size
        self.rank, self.world_size = rank, world_size
        self.first = first
        self.samples_before = samples_before
        per_round = micro_batch_size * world_size
        if micro_batch_size < 1 or order.batch_size % per_round:
            raise ConfigError(
                f"The global batch size {order.batch_size} is not a multiple of the micro-batch "
                f"size {micro_batch_size} times {world_size} data-parallel ranks ({per_round}). "
                f"The nearest that are: {_nearest_multiples(order.batch_size, per_round)}."
            )
        self.micro_batches = order.batch_size // per_round

    def __iter__(self) -> Iterator[list[SampleDraw]]:
        number = self.first
        while True:
            yield from self._share(number)
            number += 1

    def _share(self, number: int) -> Iterator[list[SampleDraw]]:
        """This rank's micro-batches of one global batch."""
        batch = self.order.batch(number)
        before = self.samples_before + number * self.order.batch_size
        for turn in range(self.micro_batches):
            begin = (turn * self.world_size + self.rank) * self.micro_batch_size
            yield [
                SampleDraw(int(batch.numbers[place]), batch.bucket, before + place)
                for place in range(begin, begin + self.micro_batch_size)
            ]


class FiniteRankBatches(RankBatches):
    """:class:`RankBatches` with an end, so with a length, for validation: each pass is the same."""

    order: OnePass

    def __iter__(self) -> Iterator[list[SampleDraw]]:
        for number in range(len(self.order)):
            yield from self._share(number)

    def __len__(self) -> int:
        """Number of micro-batches of this rank."""
        return len(self.order) * self.micro_batches


class ShardLoader(DataLoader[Any]):
    """A ``DataLoader`` that counts bad shards.

    Args:
        dataset: yields samples.
        batches: of this rank.
        bad: counts what the samples report.
        collate: makes a batch of samples.
        num_workers: processes that read.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batches: Sampler[list[SampleDraw]],
        bad: BadShards,
        collate: Any,
        num_workers: int = 0,
    ) -> None:
        remote = any(is_url(shard.location) for shard in dataset.corpus.shards)
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=_Reporting(collate),
            num_workers=num_workers,
            # What reads buckets does not survive a fork; see nemo_cosmos.storage.urls.
            multiprocessing_context="spawn" if num_workers and remote else None,
            persistent_workers=num_workers > 0,
        )
        self.bad = bad

    def __iter__(self) -> Any:
        """Yield batches.

        Raises:
            SampleError: more shards cannot be read than may be; names the last of them.
        """
        for batch, reports in super().__iter__():
            for shard, reason in reports:
                self.bad.add(shard, reason)
            if batch is None:
                shard, reason = reports[-1]
                raise SampleError(
                    "Nothing readable is left for a batch. The last sample that was tried is in "
                    f"'{shard}': {reason}"
                )
            yield batch


class _Reporting:
    """Takes the reports out of the samples and makes a batch of the rest; None where it cannot."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(
        self, samples: list[dict[str, Any]]
    ) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
        reports = [report for sample in samples for report in sample.pop(_SKIPPED)]
        return self.collate(samples) if all(samples) else None, reports


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack tensors; gather everything else in lists.

    Raises:
        SampleError: samples of one batch differ in shape.
    """
    batch: dict[str, Any] = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if not torch.is_tensor(first):
            batch[name] = values
            continue
        shapes = {tuple(value.shape) for value in values}
        if len(shapes) > 1:
            raise SampleError(
                f"'{name}' has the shapes {sorted(shapes)} in one batch (samples "
                f"{[sample.get('key') for sample in samples]}); expected one. The folders were "
                "tokenised by different tokenizers or text encoders; train on one of them."
            )
        batch[name] = torch.stack(values)
    return batch


def _nearest_multiples(value: int, step: int) -> str:
    below = value // step * step
    return f"{below} and {below + step}" if below else str(step)
