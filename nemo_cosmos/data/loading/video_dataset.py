"""Random windows of decoded clips as tensors for tokenizer training."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from nemo_cosmos.batch import VideoSample, Views
from nemo_cosmos.data.augmentation.change import Change, draw_change, speeds_that_fit
from nemo_cosmos.data.augmentation.settings import Augmentation
from nemo_cosmos.data.loading.buckets import Bucket, Size, longest_fit, nearest_size
from nemo_cosmos.data.loading.clip_cache import ClipCache
from nemo_cosmos.data.loading.corpus import Corpus
from nemo_cosmos.data.loading.loader import SampleDraw, ShardDataset
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.bad_shards import BadShards
from nemo_cosmos.errors import SampleError
from nemo_cosmos.video import resize_frames

logger = logging.getLogger(__name__)


class VideoDataset(ShardDataset):
    """Windows of curated clips at random places in time and space.

    A clip serves as a video, in the bucket of the longest length that it fills and the size of the
    nearest aspect, and as an image: one of its frames.

    Args:
        folders: folders of curated shards.
        lengths: numbers of frames that a video may have.
        sizes: (height, width) that a video may have; a clip is scaled to cover the nearest.
        cache: the cache of decoded clips.
        seed: seed of the random places.
        bad: counts shards that cannot be read.
        excluded: names of shards to leave out; see :class:`Corpus`.
        augment: what may be changed about a window; nothing by default.

    Attributes:
        videos: buckets of videos.
        images: buckets of images.

    Raises:
        MissingFileError: a folder does not exist or holds no shard.
        SampleError: every clip is shorter than the shortest length.
    """

    def __init__(
        self,
        folders: Sequence[str | os.PathLike[str]],
        *,
        lengths: Sequence[int],
        sizes: Sequence[Size],
        cache: ClipCache,
        seed: int = 0,
        bad: BadShards | None = None,
        excluded: Iterable[str] | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        self.cache = cache
        self.augment = augment
        corpus = Corpus(
            folders,
            required=("json", "mp4"),
            buckets_of=partial(_video_and_image, tuple(lengths), tuple(sizes)),
            bad=bad or BadShards(),
            excluded=excluded,
        )
        super().__init__(corpus, seed)
        self.videos = [bucket for bucket in corpus.counts if bucket.num_frames in lengths]
        self.images = [bucket for bucket in corpus.counts if bucket.num_frames == 1]
        num_videos = sum(int(corpus.counts[bucket].sum()) for bucket in self.videos)
        if num_videos < len(corpus):
            logger.warning(
                "%d of %d clips are shorter than %d frames and serve as images only.",
                len(corpus) - num_videos,
                len(corpus),
                min(lengths),
            )
        if not num_videos:
            raise SampleError(
                f"None of the {len(corpus)} clips in {[os.fspath(folder) for folder in folders]} "
                f"has {min(lengths)} frames. Train on fewer frames, or curate longer clips."
            )

    def decode(self, sample: Sample, draw: SampleDraw) -> dict[str, Any]:
        """Return ``video (3, T, H, W)`` uint8 and where it was taken from."""
        bucket = draw.bucket
        size = (bucket.height, bucket.width)
        change = Change()
        wanted, covered = (bucket.num_frames, *size), size
        if self.augment is not None:
            # A source of chance of its own: without augmentation, windows stay where they were.
            chance = np.random.default_rng([self.seed, draw.position, 1])
            speeds = speeds_that_fit(self.augment, bucket.num_frames, sample.record.num_frames)
            change = draw_change(self.augment, chance, speeds)
            covered = _larger(size, 1 / (1 - self.augment.crop))
            kept = _larger(size, change.kept / (1 - self.augment.crop))
            wanted = ((bucket.num_frames - 1) * change.speed + 1, *kept)
        view = _drawn_view(sample.record.views, self.seed, draw.position)
        frames_THWC = self.cache.get(sample, covered, view)
        random = np.random.default_rng([self.seed, draw.position])
        starts = [
            int(random.integers(have - want + 1))
            for have, want in zip(frames_THWC.shape[:3], wanted, strict=True)
        ]
        window = tuple(
            slice(start, start + want) for start, want in zip(starts, wanted, strict=True)
        )
        picked_THWC = change.colours(resize_frames(frames_THWC[window][:: change.speed], size))
        if change.is_mirrored:
            picked_THWC = picked_THWC[:, :, ::-1]
        video_CTHW = np.ascontiguousarray(picked_THWC.transpose(3, 0, 1, 2))
        item: VideoSample = {
            "key": f"{sample.key}@{draw.position}",
            "views": (view,),
            "video": torch.from_numpy(video_CTHW),
            "fps": torch.tensor(sample.record.fps / change.speed, dtype=torch.float32),
        }
        return {**item}


def _drawn_view(views: Views, seed: int, position: int) -> str:
    """The camera that a window is taken from: any of them, so that a tokenizer sees them all."""
    chance = np.random.default_rng([seed, position, 2])  # places are drawn as of one camera
    return views[int(chance.integers(len(views)))]


def _larger(size: Size, factor: float) -> Size:
    """A size times a factor of at least 1."""
    return max(size[0], round(size[0] * factor)), max(size[1], round(size[1] * factor))


def _video_and_image(
    lengths: Sequence[int],
    sizes: Sequence[Size],
    num_frames: int,
    height: int,
    width: int,
    views: Views,
) -> set[Bucket]:
    size = nearest_size(height, width, sizes)
    length = longest_fit(num_frames, lengths)
    image = Bucket(1, *size, views)
    return {image} if length is None else {image, Bucket(length, *size, views)}
