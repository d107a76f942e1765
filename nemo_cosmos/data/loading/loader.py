"""The share of one data-parallel rank in the global order, and how it is loaded.

Rank r of w takes its share of each global batch. What is random about a sample (its place in a
clip, its replacement if it is damaged) depends only on its position in the global order, so neither
ranks nor worker processes change what a model sees.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from nemo_cosmos.data.loading.buckets import ANY_SHAPE, Bucket
from nemo_cosmos.data.loading.corpus import Corpus
from nemo_cosmos.data.loading.latents import OutOfRangeError
from nemo_cosmos.data.order.stream import BatchOrder, OnePass
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.bad_shards import BadShards
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from nemo_cosmos.platform import by_device
from nemo_cosmos.platform.children import end_as_forked, leave_queue_to_parent
from nemo_cosmos.platform.ranks import num_local_processes
from nemo_cosmos.storage import is_url

MAX_REPLACEMENTS = 100
_SKIPPED = "skipped"


class _Report(NamedTuple):
    """Why a sample was not read.

    Attributes:
        shard: location of its shard.
        reason: the error's message.
        is_sample: whether the sample alone is at fault, and not its shard.
    """

    shard: str
    reason: str
    is_sample: bool


class SampleDraw(NamedTuple):
    """One sample at one moment of training.

    Attributes:
        number: the sample's number in its corpus.
        bucket: the bucket that it is drawn from.
        position: number of samples drawn before it, over all ranks since training began; it seeds
            what is random about the sample.
    """

    number: int
    bucket: Bucket
    position: int


class ShardDataset(Dataset[dict[str, Any]]):
    """Samples of a corpus as tensors; a subclass says how one is decoded.

    Args:
        corpus: the samples.
        seed: seed of what is random about a sample.
    """

    def __init__(self, corpus: Corpus, seed: int = 0) -> None:
        self.corpus = corpus
        self.seed = seed

    def __len__(self) -> int:
        return len(self.corpus)

    def decode(self, sample: Sample, draw: SampleDraw) -> dict[str, Any]:
        """Turn a sample into tensors.

        Raises:
            MissingFileError: the shard is gone.
            SampleError: the sample is damaged.
        """
        raise NotImplementedError

    def __getitem__(self, draw: SampleDraw) -> dict[str, Any]:
        """Return a sample, or if it cannot be read another of its bucket that is no larger.

        Samples that could not be read are reported in the item; :class:`ShardLoader` takes the
        reports out and counts them in the training process, whichever worker met them.
        """
        reports: list[_Report] = []
        for number in itertools.chain([draw.number], self._others(draw)):
            try:
                item = self.decode(self.corpus.sample(number), draw)
                return {**item, _SKIPPED: reports}
            except (MissingFileError, SampleError, OutOfRangeError) as error:
                shard = self.corpus.shards[self.corpus.shard_of(number)]
                is_sample = isinstance(error, OutOfRangeError)
                reports.append(_Report(shard.location, str(error), is_sample))
        return {_SKIPPED: reports}

    def _others(self, draw: SampleDraw) -> Iterator[int]:
        """Candidates to replace a sample, drawn by its position."""
        random = np.random.default_rng([self.seed, draw.position])
        num_candidates = int(self.corpus.counts[draw.bucket].sum())
        for _ in range(MAX_REPLACEMENTS):
            number = self.corpus.nth(draw.bucket, int(random.integers(num_candidates)))
            if draw.bucket != ANY_SHAPE or self._is_no_larger(number, draw.number):
                yield number

    def _is_no_larger(self, number: int, than: int) -> bool:
        """Whether a sample fits into the place of another in a pack."""
        sizes = self.corpus.latent_shapes(np.array([number, than])).prod(axis=1)
        return bool(sizes[0] <= sizes[1])


class RankBatches(Sampler[list[SampleDraw]]):
    """The micro-batches of one rank: a batch sampler for ``torch.utils.data.DataLoader``.

    Args:
        order: order of the global batches.
        micro_batch_size: samples of one micro-batch on one rank.
        rank: data-parallel rank.
        world_size: number of data-parallel ranks.
        first: number of the global batch to begin with.
        samples_before: number of samples drawn before global batch 0.
        left_out: numbers of global batches that are left out.

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
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        self.order = order
        self.left_out = left_out
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
        for number in itertools.count(self.first):
            if number not in self.left_out:
                yield from self._share(number)

    def _share(self, number: int) -> Iterator[list[SampleDraw]]:
        """Yield this rank's micro-batches of one global batch."""
        batch = self.order.batch(number)
        before = self.samples_before + number * self.order.batch_size
        for turn in range(self.micro_batches):
            begin = (turn * self.world_size + self.rank) * self.micro_batch_size
            yield [
                SampleDraw(int(batch.numbers[place]), batch.bucket, before + place)
                for place in range(begin, begin + self.micro_batch_size)
            ]


class FiniteRankBatches(RankBatches):
    """One pass over the samples for validation, always the same; it has a length."""

    order: OnePass

    def __iter__(self) -> Iterator[list[SampleDraw]]:
        for number in range(len(self.order)):
            yield from self._share(number)

    def __len__(self) -> int:
        """Number of micro-batches of this rank."""
        return len(self.order) * self.micro_batches


MAX_DEFAULT_WORKERS = 4


def default_workers() -> int:
    """Number of processes that read for one rank where nobody has chosen one.

    None without a GPU, as every core computes. Beside one, reading a batch would leave the GPU
    idle: up to four, of the cores that the ranks of this machine share.
    """
    cores = len(os.sched_getaffinity(0)) // num_local_processes()
    return by_device(0, max(1, min(MAX_DEFAULT_WORKERS, cores)))


class ShardLoader(DataLoader[Any]):
    """A ``DataLoader`` that counts bad shards.

    Args:
        dataset: the samples.
        batches: this rank's micro-batches.
        bad: the counter of bad shards.
        collate: function that makes a batch of samples.
        num_workers: number of processes that read; :func:`default_workers` where None.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batches: Sampler[list[SampleDraw]],
        bad: BadShards,
        collate: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
        num_workers: int | None = 0,
    ) -> None:
        num_workers = default_workers() if num_workers is None else num_workers
        remote = any(is_url(shard.location) for shard in dataset.corpus.shards)
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=_Reporting(collate),
            num_workers=num_workers,
            # The clients of buckets do not survive a fork; see nemo_cosmos.storage.urls.
            multiprocessing_context="spawn" if num_workers and remote else None,
            worker_init_fn=_begin_remote if remote else _begin,
            persistent_workers=num_workers > 0,
            # torch would draw from its own generator whenever a run starts to read: a resumed run
            # would then go on with other dropout than the run that it continues.
            generator=torch.Generator(),
            # Only from pinned memory a copy to the GPU runs beside its work.
            pin_memory=by_device(False, True),
        )
        self.bad = bad

    def __iter__(self) -> Any:
        """Yield batches.

        Raises:
            SampleError: more shards are unreadable than ``max_bad_shards``; names the last one.
        """
        for batch, reports in super().__iter__():
            for report in reports:
                if report.is_sample:
                    self.bad.skip(report.reason)
                else:
                    self.bad.add(report.shard, report.reason)
            if batch is None:
                shard, reason, _ = reports[-1]
                raise SampleError(
                    "Nothing readable is left for a batch. The last sample that was tried is in "
                    f"'{shard}': {reason}"
                )
            yield batch


def _begin(_: int) -> None:
    """Called in each worker, with its number."""
    leave_queue_to_parent()


def _begin_remote(number: int) -> None:
    _begin(number)
    end_as_forked()


class _Reporting:
    """Takes the reports out of the samples and makes a batch of the rest; None if one is empty."""

    def __init__(self, collate: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(
        self, samples: list[dict[str, Any]]
    ) -> tuple[dict[str, Any] | None, list[_Report]]:
        reports = [report for sample in samples for report in sample.pop(_SKIPPED)]
        return self.collate(samples) if all(samples) else None, reports


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack tensors; collect everything else in lists.

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
