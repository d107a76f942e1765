"""Lightning data modules for NeMo's trainer: latents, codes, and clips for tokenizers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import fiddle as fdl
import numpy as np

from nemo_cosmos.batch import DataSpec
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.augmentation.settings import Augmentation
from nemo_cosmos.data.loading.buckets import ANY_SHAPE, Bucket, Size
from nemo_cosmos.data.loading.clip_cache import ClipCache
from nemo_cosmos.data.loading.latent_dataset import LatentDataset
from nemo_cosmos.data.loading.loader import collate
from nemo_cosmos.data.loading.video_dataset import VideoDataset
from nemo_cosmos.data.order.packing import PackConfig, PatchSize, collate_pack, num_tokens
from nemo_cosmos.data.order.packs import PackOrder
from nemo_cosmos.data.order.resume import BatchSource, EqualBatches, PackedBatches, State
from nemo_cosmos.data.order.stream import (
    DEFAULT_WINDOW,
    BatchOrder,
    BucketOrder,
    MixedOrder,
    Numbers,
    Stream,
    check_image_ratio,
)
from nemo_cosmos.data.shard_module import Folders, ShardDataModule, as_list
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.options import Range, check_instance, check_size, check_value


class LatentDataModule(ShardDataModule[LatentDataset]):
    """Latents, text embeddings and controls for diffusion training.

    A batch holds ``latent (B,16,T,H,W)`` float32, ``t5_text_embeddings (B,L,D)`` with zeros beyond
    the text, ``t5_text_mask (B,L)``, ``fps (B,)``, ``num_frames (B,)``, ``image_size (B,4)``,
    ``padding_mask (B,1,H_px,W_px)``, what each control reads (``action (B,T_px-1,7)``), and
    ``key``, a list of texts. With ``packing`` a micro-batch is one pack of samples of any shape;
    :func:`nemo_cosmos.data.order.packing.collate_pack` says what it holds.

    Args:
        path: folder, or folders, that ``nemo-cosmos tokenize`` wrote; also URLs.
        val_path: the same for validation; none by default.
        micro_batch_size: samples of one forward pass on one rank; 1 with packing.
        global_batch_size: samples, or packs, of one optimiser step on all ranks.
        image_ratio: share of batches that are of images (samples of one frame); by default, and
            with packing, images come as often as they occur.
        text_length: tokens L.
        controls: names of the registered controls whose signals to load, such as ``("action",)``.
        seed: seed of the order.
        num_workers: number of processes that read, by default none without a GPU and up to four
            beside one; the order does not depend on it.
        shuffle_window: samples that are shuffled among each other.
        max_bad_shards: number of shards that may be missing, truncated or damaged.
        packing: settings to pack samples instead of batching those of one shape.

    Raises:
        ConfigError: batch sizes or the ratio are impossible, or a checkpoint is of another order.
        MissingFileError: a folder does not exist or holds no shard, or the tokenizer is gone.
        SampleError: a sample is incomplete, ``image_ratio`` asks for a kind that is missing, or
            more shards are bad than allowed.
    """

    reads_codes: ClassVar[bool] = False
    """Whether samples hold the codes of a discrete tokenizer, in place of latents."""
    patch: ClassVar[PatchSize | None] = None
    """What a token is made of, where it does not depend on the model."""

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
        num_workers: int | None = None,
        shuffle_window: int = DEFAULT_WINDOW,
        max_bad_shards: int = 0,
        packing: PackConfig | None = None,
    ) -> None:
        super().__init__(
            path,
            val_path,
            micro_batch_size=micro_batch_size,
            global_batch_size=global_batch_size,
            seed=seed,
            num_workers=num_workers,
            shuffle_window=shuffle_window,
            max_bad_shards=max_bad_shards,
        )
        check_value("text_length", text_length, int, Range(least=1))
        if isinstance(controls, str):
            raise ConfigError(f"controls is '{controls}'; it must be a list of names.")
        if image_ratio is not None:
            check_image_ratio(image_ratio)
        if image_ratio is not None and packing is not None:
            raise ConfigError(
                f"image_ratio is {image_ratio}, but packs hold images and videos as they come. "
                "Leave image_ratio out, or do not pack."
            )
        self.image_ratio = image_ratio
        self.text_length = text_length
        self.controls = tuple(controls)
        self._specs: dict[str, ControlSpec] = {}
        if packing is not None and self.patch is not None:
            packing = replace(packing, patch=self.patch)
        self.packing = packing
        self._remember(
            image_ratio=image_ratio,
            text_length=text_length,
            controls=list(controls),
            packing=packing,
        )

    def fit_controls(self, specs: Iterable[ControlSpec]) -> None:
        """Check the signals as a model takes them, such as actions of its embodiment's width.

        Args:
            specs: the model's controls. The names to load stay those that were given.
        """
        self._specs = {spec.name: spec for spec in specs}
        for name in ("_train_dataset", "_val_dataset"):
            self.__dict__.pop(name, None)

    def data_spec(self) -> DataSpec:
        """Return what a model must know before it is built."""
        folders = [*as_list(self.path), *([] if self.val_path is None else as_list(self.val_path))]
        return DataSpec(
            latents_thw=tuple(self.latent_shapes()),
            num_text_tokens=self.text_length,
            packed=self.packing is not None,
            folders=tuple(os.fspath(one) for one in folders),
        )

    def latent_shapes(self) -> list[tuple[int, int, int]]:
        """Latent frames, rows and columns of all batches.

        Those of packs are left out: a pack may hold samples of any shape.
        """
        shapes = set()
        if self.packing is None:
            shapes |= _latent_shapes(self._train_dataset, with_images=self.image_ratio != 0)
        if self.val_path is not None:
            shapes |= _latent_shapes(self._val_dataset)
        return sorted(shapes)

    @property
    def order_settings(self) -> dict[str, object]:
        """Everything that the order depends on, by argument."""
        settings = {**super().order_settings, "image_ratio": self.image_ratio}
        return settings if self.packing is None else {**settings, "packing": repr(self.packing)}

    @property
    def collate(self) -> Callable[[Sequence[dict[str, Any]]], dict[str, Any]]:
        """The function that makes a training batch, or a pack, of samples."""
        return collate if self.packing is None else collate_pack

    def make_dataset(
        self,
        folders: Sequence[str | os.PathLike[str]],
        *,
        for_training: bool,
        excluded: Iterable[str] | None = None,
    ) -> LatentDataset:
        """Return the tokenised samples of some folders."""
        return LatentDataset(
            folders,
            text_length=self.text_length,
            controls=[self._specs.get(name, name) for name in self.controls],
            codes=self.reads_codes,
            packed=for_training and self.packing is not None,
            bad=self.bad_shards,
            excluded=excluded,
            seed=self.seed,
        )

    def make_source(self, dataset: LatentDataset, state: State) -> BatchSource:
        """Return the packs, or batches of videos and images, from a state on."""
        corpus = dataset.corpus
        if self.packing is None:
            order = partial(self._order, dataset)
            return EqualBatches(order, self.global_batch_size, state, self.skipped)
        stream = Stream(corpus, ANY_SHAPE, seed=self.seed, window=self.shuffle_window)
        packs = PackOrder(stream, partial(_num_tokens, dataset, self.packing), self.packing)
        return PackedBatches(packs, self.global_batch_size, state, self.skipped)

    def val_buckets(self, dataset: LatentDataset) -> Sequence[Bucket]:
        """Return all buckets."""
        return list(dataset.corpus.counts)

    def _order(
        self, dataset: LatentDataset, batch_size: int, drawn: Mapping[str, int]
    ) -> BatchOrder:
        table = dataset.corpus
        make = partial(
            BucketOrder,
            table,
            batch_size=batch_size,
            seed=self.seed,
            window=self.shuffle_window,
            drawn=drawn,
        )
        if self.image_ratio is None:
            return make(list(table.counts))
        images = [bucket for bucket in table.counts if bucket.num_frames == 1]
        videos = [bucket for bucket in table.counts if bucket.num_frames > 1]
        if not videos or (self.image_ratio and not images):
            num_videos, num_images = (
                sum(int(table.counts[bucket].sum()) for bucket in kind) for kind in (videos, images)
            )
            raise SampleError(
                f"image_ratio is {self.image_ratio}, but '{self.path}' holds {num_videos} videos "
                f"and {num_images} images. Tokenize images too ('nemo-cosmos tokenize "
                "--window-frames 1') and give both folders, or leave image_ratio out."
            )
        if not self.image_ratio:
            return make(videos)
        return MixedOrder(make(videos), make(images), self.image_ratio)


class CodesDataModule(LatentDataModule):
    """Codes of a discrete tokenizer, text embeddings and controls for autoregressive training.

    A batch holds ``codes (B,T,H,W)`` int64 in place of ``latent``, and otherwise what a batch of
    :class:`LatentDataModule` does, whose arguments it has. A token is one code: ``patch``
    of ``packing`` is (1, 1, 1), whatever it says.
    """

    reads_codes: ClassVar[bool] = True
    patch: ClassVar[PatchSize | None] = (1, 1, 1)


class VideoDataModule(ShardDataModule[VideoDataset]):
    """Random windows of curated clips for tokenizer training, images in between.

    A batch holds ``video (B,3,T,H,W)`` uint8, ``fps (B,)`` and ``key``, a list of texts. An image
    batch has T = 1.

    Args:
        path: folder, or folders, of curated shards; also URLs.
        val_path: the same for validation; none by default.
        num_frames: length of a window, or several; a clip gives windows of the longest it fills.
        size: (height, width) of a window, or several; a clip is scaled to cover the nearest.
        image_ratio: share of batches that are of images.
        micro_batch_size: samples of one forward pass on one rank.
        global_batch_size: samples of one optimiser step on all ranks.
        cache_bytes: memory for decoded clips, in each worker.
        cache_dir: folder to keep decoded clips in as well.
        seed: seed of the order and the windows.
        num_workers: number of processes that decode, by default none without a GPU and up to four
            beside one; the order does not depend on it.
        shuffle_window: samples that are shuffled among each other.
        max_bad_shards: number of shards that may be missing, truncated or damaged.
        augment: what may be changed about a training window: mirror, scale of the crop, colours,
            speed. Validation shows clips as they are.

    Raises:
        ConfigError: batch sizes or the ratio are impossible, or a checkpoint is of another order.
        MissingFileError: a folder does not exist or holds no shard.
        SampleError: every clip is too short, or more shards are bad than allowed.
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
        num_workers: int | None = None,
        shuffle_window: int = DEFAULT_WINDOW,
        max_bad_shards: int = 0,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(
            path,
            val_path,
            micro_batch_size=micro_batch_size,
            global_batch_size=global_batch_size,
            seed=seed,
            num_workers=num_workers,
            shuffle_window=shuffle_window,
            max_bad_shards=max_bad_shards,
        )
        check_image_ratio(image_ratio)
        if augment is not None:
            check_instance("augment", augment, Augmentation, "Write Augmentation(flip=0.5, ...).")
        several = isinstance(num_frames, Sequence) and not isinstance(num_frames, str)
        lengths: Any = num_frames if several else (num_frames,)
        self.lengths = tuple(check_value("num_frames", n, int, Range(least=1)) for n in lengths)
        self.sizes = _as_sizes(size)
        self.image_ratio = image_ratio
        self.cache_bytes, self.cache_dir = cache_bytes, cache_dir
        self.augment = augment
        self._remember(
            num_frames=list(self.lengths),
            size=[list(size) for size in self.sizes],
            image_ratio=image_ratio,
            cache_bytes=cache_bytes,
            cache_dir=cache_dir,
            augment=None if augment is None else fdl.Config(type(augment), **asdict(augment)),
        )

    @property
    def order_settings(self) -> dict[str, object]:
        """Everything that the order depends on, by argument."""
        return {**super().order_settings, "image_ratio": self.image_ratio}

    def make_dataset(
        self,
        folders: Sequence[str | os.PathLike[str]],
        *,
        for_training: bool,
        excluded: Iterable[str] | None = None,
    ) -> VideoDataset:
        """Return windows of the clips of some folders."""
        return VideoDataset(
            folders,
            lengths=self.lengths,
            sizes=self.sizes,
            cache=self._cache,
            seed=self.seed,
            bad=self.bad_shards,
            excluded=excluded,
            augment=self.augment if for_training else None,
        )

    def make_source(self, dataset: VideoDataset, state: State) -> BatchSource:
        """Return windows of videos, mixed with images by ``image_ratio``, from a state on."""
        return EqualBatches(
            partial(self._order, dataset), self.global_batch_size, state, self.skipped
        )

    def val_buckets(self, dataset: VideoDataset) -> Sequence[Bucket]:
        """Return the buckets of videos: one window of each clip."""
        return dataset.videos

    @cached_property
    def _cache(self) -> ClipCache:
        return ClipCache(self.cache_bytes, self.cache_dir)

    def _order(
        self, dataset: VideoDataset, batch_size: int, drawn: Mapping[str, int]
    ) -> BatchOrder:
        make = partial(
            BucketOrder,
            dataset.corpus,
            batch_size=batch_size,
            seed=self.seed,
            window=self.shuffle_window,
            drawn=drawn,
        )
        if not self.image_ratio:
            return make(dataset.videos)
        return MixedOrder(make(dataset.videos), make(dataset.images), self.image_ratio)


def _latent_shapes(dataset: LatentDataset, with_images: bool = True) -> set[tuple[int, int, int]]:
    """Latent frames, rows and columns of each bucket, whose samples were all tokenised alike."""
    corpus = dataset.corpus
    buckets = [one for one in corpus.counts if with_images or one.num_frames > 1]
    firsts = np.array([corpus.nth(bucket, 0) for bucket in buckets], np.int64)
    shapes = corpus.latent_shapes(firsts).tolist()
    return {(frames, rows, columns) for _, frames, rows, columns in shapes}


def _num_tokens(dataset: LatentDataset, packing: PackConfig, numbers: Numbers) -> Numbers:
    """Lengths of samples in tokens, by their shapes in the index."""
    shapes, which = np.unique(dataset.corpus.latent_shapes(numbers), axis=0, return_inverse=True)
    tokens = [num_tokens(shape, packing.patch) for shape in shapes.tolist()]
    return np.array(tokens, np.int64)[which.reshape(-1)]


def _as_sizes(size: Size | Sequence[Size]) -> tuple[Size, ...]:
    several = isinstance(size, Sequence) and size and isinstance(size[0], Sequence)
    sizes: Any = size if several else [size]
    for one in sizes:
        check_size("size", one)
    return tuple((int(height), int(width)) for height, width in sizes)
