"""Tar files: written with bytes that depend on the content alone, and indexed by their headers.

The index walks the 512-byte headers and skips the contents, so that a shard of any size is opened
quickly and each member can be read alone. What Python's ``tarfile`` would read leniently (a
cut-off last member, a missing end mark) is an error here.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from nemo_cosmos.errors import SampleError
from nemo_cosmos.storage import open_url

BLOCK_BYTES = 512
_PLAIN_FILE = (b"0", b"\0")
_EMPTY_BLOCK = bytes(BLOCK_BYTES)


class Member(NamedTuple):
    """One file inside a tar.

    Attributes:
        tar: path or URL of the tar.
        name: path of the file inside it.
        offset: first byte of its content.
        size_bytes: length of its content.
    """

    tar: str
    name: str
    offset: int
    size_bytes: int


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file whose header names neither time nor user nor machine."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    archive.addfile(info, io.BytesIO(content))


def index_tar(location: str | os.PathLike[str]) -> list[Member]:
    """List the files of a tar, in order; raises as :func:`walk_tar`."""
    name = os.fspath(location)
    with open_url(name) as handle:
        return list(walk_tar(handle, name))


def walk_tar(handle: IO[bytes], tar: str) -> Iterator[Member]:
    """Yield the files of an open tar, in order; the content of each starts at its ``offset``.

    Args:
        handle: the open tar, at its beginning.
        tar: path or URL of the tar, for messages.

    Raises:
        SampleError: it is not a tar, or is truncated or damaged.
    """
    size_bytes = handle.seek(0, os.SEEK_END)
    position, last = 0, ""
    while True:
        handle.seek(position)
        header = handle.read(BLOCK_BYTES)
        if header == _EMPTY_BLOCK:
            return
        if len(header) < BLOCK_BYTES:
            raise _truncated(tar, last)
        _check_sum(header, tar, position)
        if header[156:157] not in _PLAIN_FILE or header[124] & 0x80:
            handle.seek(position)
            yield from _walk_with_tarfile(handle, tar)
            return
        length = int(header[124:136].rstrip(b" \0") or b"0", 8)
        content_at = position + BLOCK_BYTES
        if content_at + length > size_bytes:
            raise _truncated(tar, last)
        last = _name_in(header)
        yield Member(tar, last, content_at, length)
        position = content_at + -(-length // BLOCK_BYTES) * BLOCK_BYTES


def _name_in(header: bytes) -> str:
    path = header[:100].rstrip(b"\0").decode()
    prefix = header[345:500].rstrip(b"\0") if header[257:262] == b"ustar" else b""
    return f"{prefix.decode()}/{path}" if prefix else path


def _check_sum(header: bytes, tar: str, position: int) -> None:
    """Compare the header's checksum, which counts its own eight bytes as spaces."""
    expected = sum(header) - sum(header[148:156]) + 8 * 32
    field = header[148:156].strip(b" \0")
    if not field.isdigit() or int(field, 8) != expected:
        raise SampleError(
            f"'{tar}' is not a tar, or is damaged at byte {position}: a header has a wrong "
            "checksum. Copy or write the shard again."
        )


def _truncated(tar: str, last: str) -> SampleError:
    after = f"after '{last}'" if last else "before its first file"
    return SampleError(
        f"'{tar}' is truncated {after}: it has no end mark. The copy did not finish; copy or "
        "write the shard again."
    )


def _walk_with_tarfile(handle: IO[bytes], tar: str) -> list[Member]:
    """Let Python read long names, folders and links, which our own shards never hold."""
    try:
        with tarfile.open(fileobj=handle) as archive:
            files = [info for info in archive if info.isfile()]
    except (tarfile.TarError, EOFError) as error:
        raise SampleError(
            f"'{tar}' is not a tar, or is damaged: {error}. Copy or write the shard again."
        ) from error
    return [Member(tar, info.name, info.offset_data, info.size) for info in files]
