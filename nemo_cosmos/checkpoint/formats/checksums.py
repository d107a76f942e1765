"""Checksums of a checkpoint's files, which notice a flipped bit when it is loaded.

``weights/checksums.json`` holds, of every file of a NeMo distributed checkpoint, its size in bytes
and its CRC-32, summed while it was written: it is there before ``metadata.json``, which makes the
checkpoint complete. A CRC finds every single flipped bit and every burst of up to 32.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nemo_cosmos.errors import DamagedCheckpointError
from nemo_cosmos.platform.patches.checkpoint_sums import SUMS_FILE, file_sum, table_sum

MAX_THREADS = 8

Sums = Mapping[str, tuple[int, int]]
"""Size and CRC-32 of each file, by its path relative to ``weights/``."""


def read_sums(weights: Path) -> Sums | None:
    """The checksums of a checkpoint; None for one that was written without.

    Args:
        weights: the folder of its tensors.

    Raises:
        DamagedCheckpointError: the checksums are damaged themselves.
    """
    file = weights / SUMS_FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        sums = {str(name): (int(size), int(crc)) for name, (size, crc) in content["files"].items()}
        if content["sum"] != table_sum(sums):
            raise ValueError("its own checksum is wrong")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(
            f"The checksums '{file}' are damaged: {error}. Nothing was loaded."
        ) from error
    return sums


def find_damage(
    weights: Path, sums: Sums, *, rank: int = 0, num_ranks: int = 1
) -> Iterator[tuple[str, str]]:
    """Read a rank's share of a checkpoint's files, and yield those that are not as written.

    Args:
        weights: the folder of its tensors.
        sums: what :func:`read_sums` returned.
        rank: which share.
        num_ranks: number of shares, of about the same size.

    Yields:
        a file's name and what is wrong with it.
    """
    names = _share(sums, rank, num_ranks)
    if not names:
        return
    num_threads = min(MAX_THREADS, len(names), len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(num_threads) as pool:  # CRC-32 and reading let other threads run
        found = pool.map(lambda name: _damage(weights / name, *sums[name]), names)
        yield from ((name, damage) for name, damage in zip(names, found, strict=True) if damage)


def is_as_written(weights: Path, name: str) -> bool:
    """Whether one small file is as it was written, as far as anyone can say.

    Args:
        weights: the folder of the checkpoint's tensors.
        name: the file's path relative to it.
    """
    try:
        sums = read_sums(weights)
    except DamagedCheckpointError:
        return False
    return sums is None or name not in sums or not _damage(weights / name, *sums[name])


def _share(sums: Sums, rank: int, num_ranks: int) -> Sequence[str]:
    """Every ``num_ranks``-th file, from the largest down."""
    return sorted(sums, key=lambda name: (-sums[name][0], name))[rank::num_ranks]


def _damage(file: Path, size: int, crc: int) -> str:
    """What is wrong with a file; empty where nothing is."""
    try:
        found = file.stat().st_size
        if found != size:
            return f"it has {found} of {size} bytes"
        return "" if file_sum(file)[1] == crc else "its checksum is wrong: a part of it has changed"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
