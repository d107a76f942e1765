"""Where finished clips wait until the shards are written."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from data_curation.frames import Numbers, OpenClip
from nemo_cosmos.errors import MissingFileError, SampleError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import resize_longest_side

if TYPE_CHECKING:
    from nemo_cosmos.data.sample import Sample

THUMBNAIL_PX = 192
_JPEG_QUALITY = 85


class ClipStore:
    """Files of clips by id and suffix, in the run's work folder.

    Once the shards are written, the waiting files are deleted; a later run that needs them again
    reads them from the shards. So the data set is not kept twice.

    Args:
        output: the run's output folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._files = output / ".work" / "clips"
        self._thumbnails = output / ".work" / "thumbnails"
        self._sharded: dict[str, Sample] | None = None
        self._shared_id = ""
        self._shared: OpenClip | None = None
        self._wanted: Sequence[Sequence[int] | Numbers] = ()

    def path(self, clip_id: str, suffix: str) -> Path:
        """Path of a waiting file."""
        return self._files / clip_id[:2] / f"{clip_id}.{suffix}"

    def put(self, clip_id: str, suffix: str, content: bytes) -> None:
        """Keep one file."""
        with atomic_path(self.path(clip_id, suffix)) as temporary:
            temporary.write_bytes(content)

    def get(self, clip_id: str, suffix: str) -> bytes:
        """Read one file, waiting or sharded.

        Raises:
            MissingFileError: it is in neither place.
        """
        path = self.path(clip_id, suffix)
        if path.exists():
            return path.read_bytes()
        sample = self._shards().get(clip_id)
        if sample is None or suffix not in sample.members:
            raise MissingFileError(
                f"The file '{suffix}' of clip '{clip_id}' is neither in '{self._files}' nor in the "
                f"shards of '{self.output}'. Delete '{self.output / '.work'}' and run again."
            )
        return sample.read(suffix)

    @contextlib.contextmanager
    def open(self, clip_id: str) -> Iterator[OpenClip]:
        """Open a clip to look at its frames; within :meth:`sharing`, all stages get the same one.

        Raises:
            MissingFileError: its mp4 is neither waiting nor sharded.
        """
        if clip_id and clip_id == self._shared_id:
            self._shared = self._shared or OpenClip(self.get(clip_id, "mp4"), self._wanted)
            yield self._shared
            return
        with OpenClip(self.get(clip_id, "mp4")) as opened:
            yield opened

    @contextlib.contextmanager
    def sharing(self, clip_id: str, wanted: Sequence[Sequence[int] | Numbers]) -> Iterator[None]:
        """Within the block, :meth:`open` opens this clip once.

        Args:
            clip_id: the clip.
            wanted: numbers of the frames that each stage in the block will read.
        """
        self._shared_id, self._wanted = clip_id, wanted
        try:
            yield
        finally:
            opened, self._shared, self._shared_id = self._shared, None, ""
            if opened is not None:
                opened.close()

    def has(self, clip_id: str, suffixes: tuple[str, ...]) -> bool:
        """Whether all these files can be read."""
        if all(self.path(clip_id, suffix).exists() for suffix in suffixes):
            return True
        sample = self._shards().get(clip_id)
        return sample is not None and all(suffix in sample.members for suffix in suffixes)

    def in_shards(self, clip_ids: Iterable[str]) -> bool:
        """Whether the shards exist and contain all these clips undamaged."""
        return (self.output / "v0").is_dir() and all(each in self._shards() for each in clip_ids)

    def put_thumbnail(self, clip_id: str, frame_HWC: np.ndarray) -> None:
        """Keep a small JPEG of a frame for the report."""
        small_HWC = resize_longest_side(frame_HWC[None], THUMBNAIL_PX)[0]
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        bgr = cv2.cvtColor(small_HWC, cv2.COLOR_RGB2BGR)
        with atomic_path(self._thumbnails / f"{clip_id}.jpg") as temporary:
            temporary.write_bytes(cv2.imencode(".jpg", bgr, quality)[1].tobytes())

    def thumbnail(self, clip_id: str) -> bytes | None:
        """The JPEG of a clip, or None where there is none."""
        path = self._thumbnails / f"{clip_id}.jpg"
        return path.read_bytes() if clip_id and path.exists() else None

    def clear(self, keep: Collection[str] = ()) -> None:
        """Delete the waiting files that the shards contain now.

        Args:
            keep: ids of clips that are in no shard and that a later run may need, such as
                duplicates of a clip that may be gone by then.
        """
        for path in self._files.glob("*/*"):
            if path.name.partition(".")[0] not in keep:
                path.unlink()
        self._sharded = None

    def _shards(self) -> dict[str, Sample]:
        """Samples of the finished shards by key, listed once."""
        if self._sharded is None:
            from nemo_cosmos.data.shards.writer import (
                list_shards,
                read_shard,
            )  # brings torch: not for --help

            folder = self.output / "v0"
            self._sharded = {}
            for shard in list_shards(folder) if any(folder.rglob("*.tar")) else []:
                # A damaged shard counts as lost: its clips are made again.
                with contextlib.suppress(SampleError, MissingFileError):
                    self._sharded |= {sample.key: sample for sample in read_shard(shard)}
        return self._sharded
