"""One URL opens a file anywhere: a local path, s3://, gs:// or az:// (fsspec does the work)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from nemo_cosmos.errors import MissingDependencyError, MissingFileError


def is_url(location: str | os.PathLike[str]) -> bool:
    """Tell a remote location (``s3://bucket/key``) from a local path."""
    return "://" in os.fspath(location)


def open_url(location: str | os.PathLike[str], mode: str = "rb") -> IO[Any]:
    """Open a local path or a remote URL as a binary or text file.

    Args:
        location: a path, or a URL whose scheme fsspec knows.
        mode: as for :func:`open`.

    Raises:
        MissingFileError: nothing readable is there.
        MissingDependencyError: the scheme needs a package that is not installed.
    """
    name = os.fspath(location)
    with clear_errors(name):
        if not is_url(name):
            # Several times faster than through fsspec, which shows where many samples are read.
            return Path(name).open(mode)
        return cast("IO[Any]", fsspec.open(name, mode).open())


def filesystem_of(location: str | os.PathLike[str]) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path inside it.

    Ask for it each time and never keep it: most of them do not survive a fork, and fsspec itself
    hands out a fresh one in the child.

    Raises:
        MissingFileError: no such scheme.
        MissingDependencyError: the scheme needs a package that is not installed.
    """
    name = os.fspath(location)
    with clear_errors(name):
        filesystem, path = fsspec.core.url_to_fs(name)
    return filesystem, str(path)


@contextmanager
def clear_errors(name: str) -> Iterator[None]:
    """Turn what storage raises about a missing file or client into our errors."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"Opening '{name}' needs a package that is not installed: {error}. "
            "Install the client of that storage, for example 'pip install s3fs' for s3:// URLs."
        ) from error
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise MissingFileError(
            f"'{name}' cannot be opened: {error.strerror or error}. Check the spelling, that it is "
            "a file, and that you may read it."
        ) from error
    except ValueError as error:
        if not is_url(name) or isinstance(error, MissingFileError):
            raise
        raise MissingFileError(
            f"'{name}' cannot be opened: {error}. Expected a path, or a URL that begins with "
            "s3://, gs://, az://, https:// or another scheme that fsspec knows."
        ) from error
