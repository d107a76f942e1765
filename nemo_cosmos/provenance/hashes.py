"""The hashes that the audit log and the provenance records share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a prompt; logs hold this instead of the text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def array_sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's shape, type and content."""
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_or_none(path: Path) -> str | None:
    """The SHA-256 of a file's content; None of a file that cannot be read."""
    try:
        return file_sha256(path)
    except OSError:
        return None


def files_sha256(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of several files, that of their concatenated hashes."""
    hashes = [file_sha256(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else text_sha256("".join(hashes))
