"""Writes that are whole or not there at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_cosmos.errors import StorageFullError

#: No space, no quota, or a file that may not grow (``ulimit -f``, or the file system's largest).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MOVED_ASIDE = re.compile(r"\.tmp-[0-9a-f]{8}-old-(.+)")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block ends without an error.

    The block may create a file or a folder at the yielded path. A reader sees either what was at
    ``path`` before or the complete new content. When the block raises, or the process is killed,
    ``path`` is untouched; a leftover of a killed process begins with ``.tmp-`` and may be deleted.

    Args:
        path: place of the finished file or folder; parent folders are created.

    Raises:
        StorageFullError: no space left; nothing at ``path`` has changed.
    """
    target = Path(path)
    temporary = target.parent / f".tmp-{uuid.uuid4().hex[:8]}-{target.name}"
    try:
        with explained_when_full(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _flush(temporary)
            _move(temporary, target)
    finally:
        _remove(temporary)


@contextmanager
def explained_when_full(target: Path) -> Iterator[None]:
    """Turn what the system says of a full disk into :class:`StorageFullError`.

    Args:
        target: the file that the block writes, or a folder that it writes to.

    Raises:
        StorageFullError: no space left; a block that writes atomically has changed nothing.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error) or isinstance(error, StorageFullError):
            raise
        free_bytes = shutil.disk_usage(_existing_parent(target)).free
        limit = " of the size that a file may have" if error.errno == errno.EFBIG else ""
        raise StorageFullError(
            f"No space left{limit} while writing '{target}' ({free_bytes / 1e6:.0f} MB free). What "
            "was there before is intact. Free some space, or choose another output folder, "
            "and run the same command again: it resumes where it stopped."
        ) from error


def is_full(error: BaseException) -> bool:
    """Whether the system says that there is no space left."""
    return isinstance(error, StorageFullError) or getattr(error, "errno", None) in _FULL


def clean_up(leftover: Path) -> None:
    """Undo what a killed process left: a path that begins with ``.tmp-``.

    A folder that had been moved aside goes back if nothing had taken its place yet; all else is
    deleted. Call it only when no other process writes there.
    """
    aside = _MOVED_ASIDE.fullmatch(leftover.name)
    original = leftover.with_name(aside[1]) if aside else leftover
    if leftover.exists() and not original.exists():
        leftover.rename(original)
    else:
        _remove(leftover)


def _flush(path: Path) -> None:
    """Force the file, or every file of the folder, to the disk."""
    files = [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _move(source: Path, target: Path) -> None:
    """Rename; a folder that is already at ``target`` is first moved aside, then removed."""
    if source.is_dir() and target.is_dir():
        aside = target.parent / f".tmp-{uuid.uuid4().hex[:8]}-old-{target.name}"
        target.rename(aside)
        try:
            source.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside)
    else:
        source.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())
