"""What the data modules share: batch sizes, rank sharding, order and resumption.

Orders, resumption and loading have their own modules; this one only connects them to Lightning and,
lazily, to NeMo.
"""

from __future__ import annotations

import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import fiddle as fdl
import lightning.pytorch as pl
from torch.utils.data import DataLoader

from nemo_cosmos.data.loading.buckets import Bucket
from nemo_cosmos.data.loading.loader import (
    FiniteRankBatches,
    SampleDraw,
    ShardDataset,
    ShardLoader,
    collate,
)
from nemo_cosmos.data.order.resume import BatchSource, State, check_same_order
from nemo_cosmos.data.order.skips import BatchId
from nemo_cosmos.data.order.stream import OnePass
from nemo_cosmos.data.shards.bad_shards import BadShards
from nemo_cosmos.options import Range, check_place, check_value

if TYPE_CHECKING:
    from nemo_cosmos.data.nemo_sampler import OwnOrderDataSampler

Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
DatasetT = TypeVar("DatasetT", bound=ShardDataset)


class ShardDataModule(pl.LightningDataModule, Generic[DatasetT]):
    """What the data modules share: batch sizes, rank sharding, order and resumption.

    The order of samples is a pure function of the seed, so the state in a checkpoint is a position:
    training resumes with the very next sample on any number of ranks and workers.

    Args:
        path: folder, or folders, of shards; also URLs such as ``s3://bucket/latents``.
        val_path: the same for validation; none by default.
        micro_batch_size: samples of one forward pass on one rank.
        global_batch_size: samples of one optimiser step on all ranks.
        seed: seed of the order and of what is random about samples.
        num_workers: number of processes that read; the order does not depend on it. Where None,
            :func:`nemo_cosmos.data.loading.loader.default_workers`.
        shuffle_window: number of samples that are shuffled among each other, besides the shuffling
            of shards.
        max_bad_shards: number of shards that may be missing, truncated or damaged. They are skipped
            and logged with the reason; one more ends the run.
    """

    def __init__(
        self,
        path: Folders,
        val_path: Folders | None,
        *,
        micro_batch_size: int,
        global_batch_size: int,
        seed: int,
        num_workers: int | None,
        shuffle_window: int,
        max_bad_shards: int,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("micro_batch_size", micro_batch_size, 1),
            ("global_batch_size", global_batch_size, 1),
            ("shuffle_window", shuffle_window, 1),
            ("num_workers", 0 if num_workers is None else num_workers, 0),
            ("max_bad_shards", max_bad_shards, 0),
        ):
            check_value(name, value, int, Range(least=least))
        for folder in (*_checked_list(path), *_checked_list(val_path or ())):
            check_place("a data path", folder)
        self.path, self.val_path = path, val_path
        self.micro_batch_size = micro_batch_size
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.shuffle_window = shuffle_window
        self.bad_shards = BadShards(max_bad_shards)
        self._loaded: State = {}
        self._source: BatchSource | None = None
        self._first_step = 0
        self.skipped: frozenset[BatchId] = frozenset()

    def _remember(self, **options: object) -> None:
        """Record how to build this module again; NeMo writes it beside each checkpoint.

        Args:
            **options: the subclass's own arguments, as plain data.
        """
        self.__io__ = fdl.Config(
            type(self),
            path=_plain_paths(self.path),
            val_path=_plain_paths(self.val_path),
            micro_batch_size=self.micro_batch_size,
            global_batch_size=self.global_batch_size,
            seed=self.seed,
            # A run is the same however it is read: the default is recorded as the 0 that it was.
            num_workers=self.num_workers or 0,
            shuffle_window=self.shuffle_window,
            max_bad_shards=self.bad_shards.limit,
            **options,
        )

    @abstractmethod
    def make_dataset(
        self,
        folders: Sequence[str | os.PathLike[str]],
        *,
        for_training: bool,
        excluded: Iterable[str] | None = None,
    ) -> DatasetT:
        """Return the samples of some folders; for ``excluded`` see :class:`Corpus`."""

    @abstractmethod
    def make_source(self, dataset: DatasetT, state: State) -> BatchSource:
        """Return what to train on from a state on."""

    @abstractmethod
    def val_buckets(self, dataset: DatasetT) -> Sequence[Bucket]:
        """Return the buckets to validate on."""

    @cached_property
    def data_sampler(self) -> OwnOrderDataSampler:
        """NeMo's view of the batch sizes; it leaves our loaders unchanged."""
        from nemo_cosmos.data.nemo_sampler import OwnOrderDataSampler

        return OwnOrderDataSampler(
            seq_len=1,
            micro_batch_size=self.micro_batch_size,
            global_batch_size=self.global_batch_size,
        )

    @property
    def order_settings(self) -> dict[str, Any]:
        """Everything that the order depends on, by argument."""
        return {"seed": self.seed, "shuffle_window": self.shuffle_window}

    def train_dataloader(self) -> DataLoader[Any]:
        """Return endless micro-batches of this rank, from the first sample not yet consumed."""
        state = self.state_dict()
        check_same_order(state, self._settings())
        self._source = self.make_source(self._train_dataset, state)
        if self.trainer is not None:
            self._first_step = self.trainer.global_step
            self.data_sampler.init_global_step = self._first_step
            self.data_sampler.init_consumed_samples = state.get("consumed_samples", 0)
        batches = self._source.share(self.micro_batch_size, *data_parallel_place())
        return ShardLoader(
            self._train_dataset, batches, self.bad_shards, self.collate, self.num_workers
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return one pass over the validation samples, always the same."""
        if self.val_path is None:
            return []
        dataset = self._val_dataset
        order = OnePass(dataset.corpus, self.val_buckets(dataset), self.global_batch_size)
        rank, world_size = data_parallel_place()
        batches = FiniteRankBatches(
            order, micro_batch_size=self.micro_batch_size, rank=rank, world_size=world_size
        )
        return ShardLoader(dataset, batches, self.bad_shards, collate, self.num_workers)

    def examples(self, num_samples: int) -> list[dict[str, Any]]:
        """Return some samples to look at: videos to validate on, or to train on.

        They are the same in every run, and reading them does not change the order of training.

        Args:
            num_samples: number of samples; fewer are returned if there are no more.
        """
        dataset = self._train_dataset if self.val_path is None else self._val_dataset
        corpus = dataset.corpus
        found: list[dict[str, Any]] = []
        for bucket in sorted(corpus.counts, reverse=True):  # the longest first: images come last
            num_here = int(corpus.counts[bucket].sum())
            wanted = min(num_here, num_samples - len(found))
            for part in range(wanted):  # spread out: neighbours are often windows of one clip
                number = corpus.nth(bucket, part * num_here // wanted)
                found.append(
                    dataset.decode(corpus.sample(number), SampleDraw(number, bucket, part))
                )
        return found

    @property
    def collate(self) -> Callable[[Sequence[dict[str, Any]]], dict[str, Any]]:
        """The function that makes a training batch of samples."""
        return collate

    def reconfigure_limit_batches(self) -> None:
        """Make ``limit_val_batches`` count global batches; NeMo calls this before training.

        NeMo itself counts micro-batches there, while one validation step takes as many as a
        training step does.
        """
        limit = self.trainer.limit_val_batches
        if isinstance(limit, int):
            self.trainer.limit_val_batches = limit * self.data_sampler.num_microbatches

    def skip(self, batches: Iterable[BatchId]) -> None:
        """Leave global batches out, from the next ``train_dataloader`` on."""
        self.skipped |= frozenset(batches)

    def batch_of_step(self, step: int) -> BatchId | None:
        """The global batch of an optimiser step of the run; None for one before it was resumed.

        Args:
            step: counted from 1.
        """
        num_steps = step - self._first_step
        return (
            None if self._source is None or num_steps < 1 else self._source.batch_of_step(num_steps)
        )

    def keys_of(self, batch: BatchId) -> list[str]:
        """The keys of the samples of one of this run's global batches."""
        assert self._source is not None, "train_dataloader comes first"
        corpus = self._train_dataset.corpus
        return [corpus.sample(number).key for number in self._source.samples_of(batch)]

    def state_dict(self) -> dict[str, Any]:
        """Return the position that all ranks together have reached; the same on every rank."""
        if self._source is None:
            return dict(self._loaded)
        # Steps of the optimiser, not batches fetched: prefetching runs ahead of training.
        num_steps = 0 if self.trainer is None else self.trainer.global_step - self._first_step
        return {
            **self._source.state_after(num_steps),
            "settings": self._settings(),
            "excluded": sorted(self._train_dataset.corpus.excluded),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume behind the samples that were consumed."""
        self._loaded = dict(state_dict)
        # The dataset depends on which shards were left out when the run began.
        self.__dict__.pop("_train_dataset", None)

    def _settings(self) -> dict[str, Any]:
        return {**self.order_settings, "samples": self._train_dataset.corpus.fingerprint()}

    @cached_property
    def _train_dataset(self) -> DatasetT:
        return self.make_dataset(
            as_list(self.path), for_training=True, excluded=self._loaded.get("excluded")
        )

    @cached_property
    def _val_dataset(self) -> DatasetT:
        return self.make_dataset(as_list(self.val_path or ()), for_training=False)


def data_parallel_place() -> tuple[int, int]:
    """Return the data-parallel rank and size; (0, 1) if nothing is initialised.

    Not the rank in the whole world: ranks that share a model (tensor, pipeline, context parallel)
    must see the same samples.
    """
    # Megatron takes seconds to import; if nobody has imported it, nobody has initialised it.
    parallel_state = sys.modules.get("megatron.core.parallel_state")
    if parallel_state is None or not parallel_state.model_parallel_is_initialized():
        return 0, 1
    return (
        parallel_state.get_data_parallel_rank(),
        parallel_state.get_data_parallel_world_size(),
    )


def _checked_list(path: Any) -> list[Any]:
    """What a data path lists; a value that is no list stands for itself, to be refused."""
    is_list = isinstance(path, Sequence) and not isinstance(path, str)
    return list(path) if is_list else [path]


def as_list(path: Folders) -> list[str | os.PathLike[str]]:
    """Return one folder or several as a list."""
    return [path] if isinstance(path, str | os.PathLike) else list(path)


def _plain_paths(path: Folders | None) -> str | list[str] | None:
    """Paths as text, for a configuration that is written to a file."""
    if path is None or isinstance(path, str | os.PathLike):
        return None if path is None else os.fspath(path)
    return [os.fspath(item) for item in path]
