"""Parts of files anywhere: memory-mapped where they are local, ranged reads where they are not.

A file is named together with its :class:`FileStamp`, so that a part is never taken from another
version of the file than the one that its place was found in.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.storage.atomic import atomic_path
from nemo_cosmos.storage.urls import clear_errors, filesystem_of, is_url

MAX_MAPPED_FILES = 256
MAX_GAP_BYTES = 256 * 1024
"""A request costs about as long as this many bytes take, so gaps up to it are read along."""

# Under what name each storage says when an object was last written.
_TIME_FIELDS = ("LastModified", "mtime", "updated", "last_modified", "modified", "created")


class FileStamp(NamedTuple):
    """Facts that differ between two versions of a file.

    Attributes:
        size_bytes: the file's length.
        mtime_ns: when it was last written, in nanoseconds; 0 where the storage does not say.
    """

    size_bytes: int
    mtime_ns: int


def stamp_of(location: str | os.PathLike[str]) -> FileStamp:
    """Size and time of a file.

    Raises:
        MissingFileError: nothing readable is there.
        MissingDependencyError: the scheme needs a package that is not installed.
    """
    name = os.fspath(location)
    with clear_errors(name):
        if not is_url(name):
            status = os.stat(name)  # noqa: PTH116 - a Path costs more than the call itself
            return FileStamp(status.st_size, status.st_mtime_ns)
        filesystem, path = filesystem_of(name)
        info = filesystem.info(path)
    return FileStamp(int(info["size"]), _time_ns(info))


def stamp_or_none(location: str | os.PathLike[str]) -> FileStamp | None:
    """Size and time of a file; None of a link to nowhere, whose reader says what is wrong."""
    try:
        return stamp_of(location)
    except MissingFileError:
        return None


def read_ranges(location: str, stamp: FileStamp, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read parts of a file.

    Args:
        location: path or URL.
        stamp: stamp of the version to read.
        ranges: (offset, size) of each part, in bytes.

    Returns:
        The parts; one that reaches behind the end of the file is cut there.

    Raises:
        MissingFileError: the file is gone, or is another one by now.
    """
    if not is_url(location):
        mapped = _map(location, stamp)
        return [mapped.read(offset, size) for offset, size in ranges]
    begin = min(offset for offset, _ in ranges)
    end = max(offset + size for offset, size in ranges)
    with clear_errors(location):
        filesystem, path = filesystem_of(location)
        if end - begin - sum(size for _, size in ranges) <= MAX_GAP_BYTES:
            span = filesystem.cat_file(path, start=begin, end=end)
            return [span[offset - begin : offset - begin + size] for offset, size in ranges]
        return [
            filesystem.cat_file(path, start=offset, end=offset + size) for offset, size in ranges
        ]


def write_bytes(location: str | os.PathLike[str], content: bytes) -> None:
    """Write a small file, whole or not at all.

    Raises:
        StorageFullError: no space left.
        OSError: the place cannot be written to.
    """
    name = os.fspath(location)
    if is_url(name):
        filesystem, path = filesystem_of(name)
        filesystem.pipe_file(path, content)
        return
    with atomic_path(name) as temporary:
        temporary.write_bytes(content)


class _MappedFile:
    """The parts of a local file that are read, in memory."""

    def __init__(self, name: str, stamp: FileStamp) -> None:
        with clear_errors(name):
            descriptor = os.open(name, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            if (status.st_size, status.st_mtime_ns) != stamp:
                raise MissingFileError(
                    f"'{name}' has changed since it was indexed ({stamp.size_bytes} bytes then, "
                    f"{status.st_size} now). Do not write to shards that are being read; start "
                    "again to index it again."
                )
            self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)

    def read(self, offset: int, size_bytes: int) -> bytes:
        # Touching a page behind the end of a file that has shrunk would kill the process.
        end = min(offset + size_bytes, self._map.size())
        return self._map[offset:end]


@lru_cache(maxsize=MAX_MAPPED_FILES)
def _map(name: str, stamp: FileStamp) -> _MappedFile:
    return _MappedFile(name, stamp)


def _time_ns(info: JsonObject) -> int:
    value = next((info[field] for field in _TIME_FIELDS if info.get(field)), 0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = value.timestamp()
    return round(float(value) * 1e9)
