"""Whether a file of an export is all there, by its own word; no weight is read, and no torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path

_LENGTH = struct.Struct("<Q")
"""The header's length in bytes, with which a safetensors file begins."""


def is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says, or a JSON file can be read.

    Args:
        file: the file; of another kind it is whole if it exists.
    """
    if not file.is_file():
        return False
    try:
        if file.suffix == ".safetensors":
            return file.stat().st_size == _stated_bytes(file)
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        return False
    return True


def _stated_bytes(file: Path) -> int:
    """The size of a whole safetensors file: its length field, its header and its tensors."""
    size = file.stat().st_size
    with file.open("rb") as handle:
        (length,) = _LENGTH.unpack(handle.read(_LENGTH.size))
        if length > size:  # what stands there is no length
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = json.loads(handle.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return int(_LENGTH.size + length + max(ends, default=0))
