"""Lightning data modules for NeMo's trainer.

The order of samples and its resumption are in :mod:`nemo_cosmos.data.loader`; these classes only
connect them to Lightning and, lazily, to NeMo.
"""

from __future__ import annotations

import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import fiddle as fdl
import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from nemo_cosmos.data.buckets import Size, group
from nemo_cosmos.data.clip_cache import ClipCache
from nemo_cosmos.data.latent_dataset import LatentDataset, collate
from nemo_cosmos.data.loader import (
    BatchOrder,
    FiniteRankBatches,
    MixedOrder,
    RankBatches,
    SampleOrder,
    check_image_ratio,
)
from nemo_cosmos.data.video_dataset import VideoDataset
from nemo_cosmos.errors import ConfigError, SampleError

Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class ShardDataModule(pl.LightningDataModule):
    """What the data modules share: batch sizes, rank sharding, order and resumption.

    The state in a checkpoint is the number of samples consumed, so training resumes with the next
    sample on any number of ranks.
    """

    def __init__(
        self, *, micro_batch_size: int, global_batch_size: int, seed: int, num_workers: int
    ) -> None:
        super().__init__()
        if min(micro_batch_size, global_batch_size) < 1 or num_workers < 0:
            raise ConfigError(
                f"micro_batch_size is {micro_batch_size}, global_batch_size {global_batch_size} "
                f"and num_workers {num_workers}; expected positive batch sizes and at least 0 "
                "workers."
            )
        self.micro_batch_size = micro_batch_size
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.consumed_samples = 0

    @abstractmethod
    def train_order(self) -> tuple[Dataset[dict[str, Any]], BatchOrder]:
        """Training samples, and the endless order of their global batches."""

    @abstractmethod
    def val_order(self) -> tuple[Dataset[dict[str, Any]], SampleOrder] | None:
        """Validation samples in a fixed order, or ``None`` when there are none."""

    @cached_property
    def data_sampler(self) -> Any:
        """NeMo's view of the batch sizes; it leaves our loaders as they are."""
        from nemo_cosmos.data.nemo_sampler import OwnOrderDataSampler

        return OwnOrderDataSampler(
            seq_len=1,
            micro_batch_size=self.micro_batch_size,
            global_batch_size=self.global_batch_size,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless micro-batches of this rank, from the first sample not yet consumed."""
        dataset, order = self.train_order()
        rank, world_size = _data_parallel_place()
        if self.trainer is not None:
            self.data_sampler.init_global_step = self.trainer.global_step
            self.data_sampler.init_consumed_samples = self.consumed_samples
        batches = RankBatches(
            order,
            micro_batch_size=self.micro_batch_size,
            rank=rank,
            world_size=world_size,
            start=self.consumed_samples,
        )
        return self._loader(dataset, batches)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """One pass over the validation samples, always the same."""
        found = self.val_order()
        if found is None:
            return []
        dataset, order = found
        rank, world_size = _data_parallel_place()
        batches = FiniteRankBatches(
            order,
            micro_batch_size=self.micro_batch_size,
            rank=rank,
            world_size=world_size,
            num_batches=order.batches_per_epoch,
        )
        return self._loader(dataset, batches)

    def reconfigure_limit_batches(self) -> None:
        """Make ``limit_val_batches`` count global batches; NeMo calls this before training.

        NeMo itself counts micro-batches there, while one validation step takes as many as a
        training step does.
        """
        limit = self.trainer.limit_val_batches
        if isinstance(limit, int):
            self.trainer.limit_val_batches = limit * self.data_sampler.num_microbatches

    def state_dict(self) -> dict[str, Any]:
        """Samples that all ranks together have consumed; the same on every rank."""
        if self.trainer is not None:
            # Steps of the optimiser, not batches fetched: prefetching runs ahead of training.
            return {"consumed_samples": self.trainer.global_step * self.global_batch_size}
        return {"consumed_samples": self.consumed_samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the samples that were consumed."""
        self.consumed_samples = int(state_dict["consumed_samples"])

    def _loader(self, dataset: Dataset[Any], batches: RankBatches) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


class LatentDataModule(ShardDataModule):
    """Latents, text embeddings and controls for diffusion training.

    A batch holds ``latent (B,16,T,H,W)`` float32, ``t5_text_embeddings (B,L,D)`` with zeros beyond
    the text, ``t5_text_mask (B,L)``, ``fps (B,)``, ``num_frames (B,)``, ``image_size (B,4)``,
    ``padding_mask (B,1,H_px,W_px)``, each control under its name (``action (B,T_px-1,7)``), and
    ``key``, a list of texts.

    Args:
        path: folder, or folders, that ``nemo-cosmos tokenize`` wrote.
        val_path: the same for validation; none by default.
        micro_batch_size: samples of one forward pass on one rank.
        global_batch_size: samples of one optimiser step on all ranks.
        image_ratio: share of batches that are of images (samples of one frame); by default images
            come as often as they occur.
        text_length: tokens L.
        controls: sidecars to load, for example ``("action",)``.
        seed: of the order.
        num_workers: processes that read; the order does not depend on it.

    Raises:
        ConfigError: batch sizes or the ratio are impossible.
        MissingFileError: a folder is not there or holds no shard.
        SampleError: a sample is incomplete, or there is none of a kind that the ratio asks for.
    """

    def __init__(
        self,
        path: Folders,
        val_path: Folders | None = None,
        *,
        micro_batch_size: int = 1,
        global_batch_size: int = 1,
        image_ratio: float | None = None,
        text_length: int = 512,
        controls: Sequence[str] = (),
        seed: int = 1234,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            micro_batch_size=micro_batch_size,
            global_batch_size=global_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        if image_ratio is not None:
            check_image_ratio(image_ratio)
        self.path, self.val_path = path, val_path
        self.image_ratio = image_ratio
        self.text_length = text_length
        self.controls = tuple(controls)
        self.__io__ = fdl.Config(
            LatentDataModule,
            path=_plain(path),
            val_path=_plain(val_path),
            micro_batch_size=micro_batch_size,
            global_batch_size=global_batch_size,
            image_ratio=image_ratio,
            text_length=text_length,
            controls=list(controls),
            seed=seed,
            num_workers=num_workers,
        )

    def train_order(self) -> tuple[Dataset[dict[str, Any]], BatchOrder]:
        """Videos and images in one order; see :class:`ShardDataModule`."""
        dataset = self._train_dataset
        places = group(dataset.buckets)
        if self.image_ratio is None:
            return dataset, self._order(list(places.values()))
        images = [found for bucket, found in places.items() if bucket.num_frames == 1]
        videos = [found for bucket, found in places.items() if bucket.num_frames > 1]
        if not videos or (self.image_ratio and not images):
            raise SampleError(
                f"image_ratio is {self.image_ratio}, but '{self.path}' holds "
                f"{sum(map(len, videos))} videos and {sum(map(len, images))} images. Tokenize "
                "images too ('nemo-cosmos tokenize --window-frames 1') and give both folders, or "
                "leave image_ratio out."
            )
        if not self.image_ratio:
            return dataset, self._order(videos)
        return dataset, MixedOrder(self._order(videos), self._order(images), self.image_ratio)

    def val_order(self) -> tuple[Dataset[dict[str, Any]], SampleOrder] | None:
        """The samples of ``val_path``, bucket by bucket."""
        if self.val_path is None:
            return None
        dataset = self._val_dataset
        return dataset, self._order(list(group(dataset.buckets).values()), shuffle=False)

    @cached_property
    def _train_dataset(self) -> LatentDataset:
        return self._dataset(self.path)

    @cached_property
    def _val_dataset(self) -> LatentDataset:
        return self._dataset(self.val_path or ())

    def _dataset(self, path: Folders) -> LatentDataset:
        return LatentDataset(_as_list(path), text_length=self.text_length, controls=self.controls)

    def _order(self, buckets: list[Any], shuffle: bool = True) -> SampleOrder:
        return SampleOrder(
            buckets, batch_size=self.global_batch_size, seed=self.seed, shuffle=shuffle
        )


class VideoDataModule(ShardDataModule):
    """Random windows of curated clips for tokenizer training, images in between.

    A batch holds ``video (B,3,T,H,W)`` uint8, ``fps (B,)`` and ``key``, a list of texts. An image
    batch has T = 1.

    Args:
        path: folder, or folders, of curated shards.
        val_path: the same for validation; none by default.
        num_frames: length of a window, or several; a clip gives windows of the longest it fills.
        size: (height, width) of a window, or several; a clip is scaled to cover the nearest.
        image_ratio: share of batches that are of images.
        micro_batch_size: samples of one forward pass on one rank.
        global_batch_size: samples of one optimiser step on all ranks.
        cache_bytes: memory for decoded clips, in each worker.
        cache_dir: keep decoded clips there too.
        seed: of order and windows.
        num_workers: processes that decode; the order does not depend on it.

    Raises:
        ConfigError: batch sizes or the ratio are impossible.
        MissingFileError: a folder is not there or holds no shard.
        SampleError: every clip is too short, or one is incomplete or damaged.
    """

    def __init__(
        self,
        path: Folders,
        val_path: Folders | None = None,
        *,
        num_frames: int | Sequence[int] = 17,
        size: Size | Sequence[Size] = (96, 128),
        image_ratio: float = 0.2,
        micro_batch_size: int = 1,
        global_batch_size: int = 1,
        cache_bytes: int = 2 * 1024**3,
        cache_dir: str | None = None,
        seed: int = 1234,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            micro_batch_size=micro_batch_size,
            global_batch_size=global_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        check_image_ratio(image_ratio)
        self.path, self.val_path = path, val_path
        self.lengths = (num_frames,) if isinstance(num_frames, int) else tuple(num_frames)
        self.sizes = _as_sizes(size)
        self.image_ratio = image_ratio
        self.cache_bytes, self.cache_dir = cache_bytes, cache_dir
        self.__io__ = fdl.Config(
            VideoDataModule,
            path=_plain(path),
            val_path=_plain(val_path),
            num_frames=list(self.lengths),
            size=[list(size) for size in self.sizes],
            image_ratio=image_ratio,
            micro_batch_size=micro_batch_size,
            global_batch_size=global_batch_size,
            cache_bytes=cache_bytes,
            cache_dir=cache_dir,
            seed=seed,
            num_workers=num_workers,
        )

    def train_order(self) -> tuple[Dataset[dict[str, Any]], BatchOrder]:
        """Windows of videos, with images in between by ``image_ratio``."""
        dataset = self._train_dataset
        videos = self._order(dataset, images=False)
        if not self.image_ratio:
            return dataset, videos
        return dataset, MixedOrder(videos, self._order(dataset, images=True), self.image_ratio)

    def val_order(self) -> tuple[Dataset[dict[str, Any]], SampleOrder] | None:
        """One window of each clip of ``val_path``, always the same."""
        if self.val_path is None:
            return None
        return self._val_dataset, self._order(self._val_dataset, images=False, shuffle=False)

    @cached_property
    def _cache(self) -> ClipCache:
        return ClipCache(self.cache_bytes, self.cache_dir)

    @cached_property
    def _train_dataset(self) -> VideoDataset:
        return self._dataset(self.path)

    @cached_property
    def _val_dataset(self) -> VideoDataset:
        return self._dataset(self.val_path or ())

    def _dataset(self, path: Folders) -> VideoDataset:
        return VideoDataset(
            _as_list(path),
            lengths=self.lengths,
            sizes=self.sizes,
            cache=self._cache,
            seed=self.seed,
        )

    def _order(self, dataset: VideoDataset, *, images: bool, shuffle: bool = True) -> SampleOrder:
        buckets = [bucket for _, bucket in dataset.entries]
        first = dataset.num_videos if images else 0
        chosen = buckets[first:] if images else buckets[: dataset.num_videos]
        return SampleOrder(
            [first + found for found in group(chosen).values()],
            batch_size=self.global_batch_size,
            seed=self.seed,
            shuffle=shuffle,
        )


def _data_parallel_place() -> tuple[int, int]:
    """Rank and number of data-parallel ranks; one process where nothing is initialised."""
    # Megatron takes seconds to import; where nobody has imported it, nobody has initialised it.
    parallel_state = sys.modules.get("megatron.core.parallel_state")
    if parallel_state is None or not parallel_state.model_parallel_is_initialized():
        return 0, 1
    return (
        parallel_state.get_data_parallel_rank(),
        parallel_state.get_data_parallel_world_size(),
    )


def _as_list(path: Folders) -> list[str | os.PathLike[str]]:
    return [path] if isinstance(path, str | os.PathLike) else list(path)


def _plain(path: Folders | None) -> str | list[str] | None:
    """Paths as text, for a configuration that is written to a file."""
    if path is None or isinstance(path, str | os.PathLike):
        return None if path is None else os.fspath(path)
    return [os.fspath(item) for item in path]


def _as_sizes(size: Size | Sequence[Size]) -> tuple[Size, ...]:
    sizes: Any = [size] if isinstance(size[0], int) else size
    return tuple((int(height), int(width)) for height, width in sizes)
