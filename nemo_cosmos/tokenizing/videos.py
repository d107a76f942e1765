"""The videos that a tokenizer is tried on: a folder of mp4 files, one file, or shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.shards.index import load_index
from nemo_cosmos.data.shards.writer import list_shards
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.provenance.hashes import sha256_or_none
from nemo_cosmos.storage.paths import mp4_files
from nemo_cosmos.storage.ranges import stamp_or_none
from nemo_cosmos.video import Video, decode


@dataclass(frozen=True)
class VideoSource:
    """A video that is read when it is needed.

    Attributes:
        name: its name, unique in its set.
        stamp: changes when the video does; anything that JSON can hold.
        read: decodes it.
        sha256: gives the checksum of its file; None of one that cannot be read.
    """

    name: str
    stamp: object
    read: Callable[[], Video]
    sha256: Callable[[], str | None]


def find_videos(place: str | PathLike[str], limit: int | None = None) -> list[VideoSource]:
    """List the videos, in order of name; none is decoded.

    Args:
        place: a folder of mp4 files, one file, or shards.
        limit: how many at most.

    Raises:
        MissingFileError: there is none.
        SampleError: a shard is damaged.
    """
    folder = Path(place)
    files = [folder] if folder.suffix == ".mp4" and folder.is_file() else []
    files = files or mp4_files(folder)
    if files:
        return [_of_file(file) for file in files[:limit]]
    try:
        shards = list_shards(place)
    except MissingFileError as error:
        raise MissingFileError(
            f"'{place}' holds no video. Name a folder of .mp4 files, one of them, or shards of "
            "'nemo-cosmos curate'."
        ) from error
    found = []
    for shard in shards:
        index = load_index(shard)
        found += [_of_sample(Sample(index, row)) for row in range(len(index))]
    return found[:limit]


def _of_file(file: Path) -> VideoSource:
    return VideoSource(
        file.stem,
        stamp_or_none(file),
        lambda: decode(file, find_fields=True),
        lambda: sha256_or_none(file),
    )


def _of_sample(sample: Sample) -> VideoSource:
    def sha256() -> str:
        import hashlib

        return hashlib.sha256(sample.read("mp4")).hexdigest()

    return VideoSource(
        sample.key, [sample.shard, sample.key], lambda: decode(sample.read("mp4")), sha256
    )
