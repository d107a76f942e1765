"""What a file says beside its pictures of where they were taken.

Telephones, drones and dash cameras write the place into a tag, or into boxes of their own that no
reader reports. Whoever copies a video to others passes it on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

_PLACE_NAME = re.compile(
    r"location|gps|geo|xyz|loci|latitude|longitude|iso.?6709|coordinate|address|place", re.I
)
# ISO 6709, "+48.8577+002.295/", under whatever name it stands.
_PLACE_VALUE = re.compile(r"[+-]\d{2,6}(?:\.\d+)?[+-]\d{3,7}(?:\.\d+)?(?:[+-]\d+(?:\.\d+)?)?/?")
#: Boxes of an mp4 (ISO/IEC 14496-12) that hold pictures, their times, and tags that are reported.
_FILE_BOXES = frozenset(
    b"ftyp styp moov mdat free skip wide sidx ssix moof mfra prft emsg pdin".split()
)
_MOVIE_BOXES = frozenset(b"mvhd trak mvex iods udta meta free skip".split())
_HEADER_BYTES = 8


def is_place(name: str, value: str) -> bool:
    """Whether a tag says where a video was taken."""
    return bool(_PLACE_NAME.search(name) or _PLACE_VALUE.fullmatch(value.strip()))


def places(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that say where a video was taken."""
    return {name: value for name, value in tags.items() if is_place(name, value)}


def without_places(tags: Mapping[str, str]) -> dict[str, str]:
    """All tags but those that say where a video was taken."""
    return {name: value for name, value in tags.items() if not is_place(name, value)}


def has_unreported_boxes(path: Path) -> bool:
    """Whether an mp4 holds boxes besides its pictures and the tags that a reader reports.

    These are XMP packets, notes of a camera's maker, and whatever else may name a place. What
    cannot be followed as boxes counts as one.
    """
    with path.open("rb") as handle:
        end = path.stat().st_size
        try:
            for kind, start, stop in _boxes(handle, 0, end):
                if kind not in _FILE_BOXES:
                    return True
                if kind == b"moov" and _is_odd_movie(handle, start, stop):
                    return True
        except (struct.error, ValueError):
            return True
    return False


def _is_odd_movie(handle: BinaryIO, start: int, stop: int) -> bool:
    for kind, first, last in list(_boxes(handle, start, stop)):
        if kind not in _MOVIE_BOXES:
            return True
        inner = [name for name, _, _ in _boxes(handle, first, last)] if kind != b"mvhd" else []
        if kind == b"trak" and {b"udta", b"meta", b"uuid"} & set(inner):
            return True
        if kind == b"udta" and set(inner) - {b"meta"}:
            return True
    return False


def _boxes(handle: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box and where its content begins and ends."""
    while start + _HEADER_BYTES <= stop:
        handle.seek(start)
        size, kind = struct.unpack(">I4s", handle.read(_HEADER_BYTES))
        header = _HEADER_BYTES
        if size == 1:  # the size is in 64 bits
            size, header = struct.unpack(">Q", handle.read(8))[0], 16
        elif size == 0:  # up to the end
            size = stop - start
        if size < header or start + size > stop:
            raise ValueError("a box that is larger than what holds it")
        yield kind, start + header, start + size
        start += size
