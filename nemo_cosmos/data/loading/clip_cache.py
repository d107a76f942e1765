"""Decoded clips kept in memory and on disk, so that training does not wait for the decoder."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.batch import view_suffix
from nemo_cosmos.data.loading.buckets import Size
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.errors import SampleError, VideoError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import decode


class ClipCache:
    """Decode each clip once, scaled so that it just covers a size.

    Args:
        max_bytes: memory for decoded clips; the least recently used are dropped first.
        folder: folder to keep decoded clips in as ``.npy`` as well, shared by all workers and later
            runs; without a limit, 3 bytes per pixel.
    """

    def __init__(self, max_bytes: int, folder: str | os.PathLike[str] | None = None) -> None:
        self.max_bytes = max_bytes
        self.folder = None if folder is None else Path(folder)
        self._clips: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._used_bytes = 0

    def get(self, sample: Sample, size: Size, view: str | None = None) -> NDArray[np.uint8]:
        """Return frames ``(T, h, w, 3)`` in the clip's aspect ratio, h and w at least ``size``.

        Args:
            sample: the sample.
            size: height and width to cover.
            view: which of its cameras; by default the first.

        Raises:
            SampleError: the clip cannot be decoded, or has fewer frames than its JSON says.
        """
        suffix = "mp4" if view is None else view_suffix(sample.record.views, view)
        name = _name(sample, size, suffix)
        if name in self._clips:
            self._clips.move_to_end(name)
            return self._clips[name]
        frames = self._from_disk(name)
        if frames is None:
            frames = _decode_to_cover(sample, size, suffix)
            self._to_disk(name, frames)
        self._keep(name, frames)
        return frames

    def _keep(self, name: str, frames: NDArray[np.uint8]) -> None:
        if frames.nbytes > self.max_bytes:
            return
        self._clips[name] = frames
        self._used_bytes += frames.nbytes
        while self._used_bytes > self.max_bytes:
            _, dropped = self._clips.popitem(last=False)
            self._used_bytes -= dropped.nbytes

    def _from_disk(self, name: str) -> NDArray[np.uint8] | None:
        path = None if self.folder is None else self.folder / f"{name}.npy"
        if path is None or not path.exists():
            return None
        frames: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        return frames

    def _to_disk(self, name: str, frames: NDArray[np.uint8]) -> None:
        if self.folder is None:
            return
        with atomic_path(self.folder / f"{name}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, frames, allow_pickle=False)


def _name(sample: Sample, size: Size, suffix: str) -> str:
    """Name of a decoded clip: by content where the checksum is known, else by place."""
    identity = sample.record.sha256 or f"{sample.shard}/{sample.key}"
    if suffix != "mp4":
        identity = f"{identity} {suffix}"
    return hashlib.sha256(f"{identity} {size[0]}x{size[1]}".encode()).hexdigest()[:32]


def _decode_to_cover(sample: Sample, size: Size, suffix: str) -> NDArray[np.uint8]:
    record = sample.record
    scale = max(size[0] / record.height, size[1] / record.width)
    covering = (
        max(size[0], round(record.height * scale)),
        max(size[1], round(record.width * scale)),
    )
    try:
        frames = decode(sample.read(suffix), size=covering).frames_THWC
    except VideoError as error:
        raise SampleError(f"The {suffix} of {sample.where} is damaged. {error}") from error
    if len(frames) != record.num_frames:
        raise SampleError(
            f"The {suffix} of {sample.where} has {len(frames)} frames, but its JSON says "
            f"{record.num_frames}. Curate the clip again."
        )
    return frames
