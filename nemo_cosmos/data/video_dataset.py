"""Random windows of decoded clips as tensors for tokenizer training."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from nemo_cosmos.data.buckets import Bucket, Size, longest_fit, nearest_size
from nemo_cosmos.data.clip_cache import ClipCache
from nemo_cosmos.data.loader import Draw
from nemo_cosmos.data.shards import Sample, read_samples
from nemo_cosmos.errors import SampleError

logger = logging.getLogger(__name__)


class VideoDataset(Dataset[dict[str, Any]]):
    """Windows of curated clips at random places in time and space, drawn by :class:`Draw`.

    Entries are of two kinds: videos, in the bucket of the longest length that the clip fills and
    the size of the nearest aspect; and, behind them, images: one frame of any clip.

    Args:
        folders: folders of curated shards.
        lengths: numbers of frames that a video may have.
        sizes: (height, width) that a video may have; a clip is scaled to cover the nearest.
        cache: where decoded clips are kept.
        seed: of the random places.

    Raises:
        MissingFileError: a folder is not there or holds no shard.
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
    ) -> None:
        self.cache = cache
        self.seed = seed
        self.entries: list[tuple[Sample, Bucket]] = []
        self.skipped: Counter[str] = Counter()
        images: list[tuple[Sample, Bucket]] = []
        for folder in folders:
            for sample in read_samples(folder, ("json", "mp4")):
                record = sample.record
                size = nearest_size(record.height, record.width, sizes)
                length = longest_fit(record.num_frames, lengths)
                images.append((sample, Bucket(1, *size)))
                if length is None:
                    self.skipped["too_short"] += 1
                else:
                    self.entries.append((sample, Bucket(length, *size)))
        self.num_videos = len(self.entries)
        self.entries += images
        if self.skipped:
            logger.warning(
                "%d of %d clips are shorter than %d frames and serve as images only.",
                self.skipped["too_short"],
                len(images),
                min(lengths),
            )
        if not self.num_videos:
            raise SampleError(
                f"None of the {len(images)} clips in {[os.fspath(folder) for folder in folders]} "
                f"has {min(lengths)} frames. Train on fewer frames, or curate longer clips."
            )

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """Return ``video (3, T, H, W)`` uint8 and where it was taken from."""
        sample, bucket = self.entries[draw.index]
        frames_THWC = self.cache.get(sample, (bucket.height, bucket.width))
        random = np.random.default_rng([self.seed, draw.position])
        wanted = (bucket.num_frames, bucket.height, bucket.width)
        starts = [
            int(random.integers(have - want + 1))
            for have, want in zip(frames_THWC.shape[:3], wanted, strict=True)
        ]
        window = tuple(
            slice(start, start + want) for start, want in zip(starts, wanted, strict=True)
        )
        video_CTHW = np.ascontiguousarray(frames_THWC[window].transpose(3, 0, 1, 2))
        return {
            "key": f"{sample.key}@{draw.position}",
            "video": torch.from_numpy(video_CTHW),
            "fps": torch.tensor(sample.record.fps, dtype=torch.float32),
        }
