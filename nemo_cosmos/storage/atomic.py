"""Writes that are whole or not there at all."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_cosmos.errors import StorageFullError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block ends without an error.

    The block may create a file or a folder at the yielded path. A reader sees either what was at
    ``path`` before or the complete new content. When the block raises, or the process is killed,
    ``path`` is untouched; a leftover of a killed process begins with ``.tmp-`` and may be deleted.

    Args:
        path: where the finished file or folder goes; parent folders are made.

    Raises:
        StorageFullError: no space left; nothing at ``path`` has changed.
    """
    target = Path(path)
    temporary = target.parent / f".tmp-{uuid.uuid4().hex[:8]}-{target.name}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        _move(temporary, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and not isinstance(error, StorageFullError):
            free_bytes = shutil.disk_usage(_existing_parent(target)).free
            raise StorageFullError(
                f"No space left while writing '{target}' ({free_bytes / 1e6:.0f} MB free). What "
                "was there before is intact. Free some space, or choose another output folder, "
                "and run the same command again: it goes on where it stopped."
            ) from error
        raise
    finally:
        _remove(temporary)


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
