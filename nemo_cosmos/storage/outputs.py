"""Check where a command will write, before it works for minutes: permission and room."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import fsspec

from nemo_cosmos.errors import InputError, StorageFullError
from nemo_cosmos.storage.paths import real_path
from nemo_cosmos.storage.urls import is_url

_LIKE_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def check_output_file(path: str | os.PathLike[str]) -> Path:
    """Check that a file can be written; nothing is left behind.

    Args:
        path: the file; parent folders that do not exist are made when it is written.

    Returns:
        The path.

    Raises:
        InputError: it is a folder, lies below a file, or its folder cannot be written.
    """
    _check_scheme(path)
    target = Path(path)
    if target.is_dir():
        raise InputError(f"'{target}' is a folder; expected the name of a file to write.")
    if target.exists() and not target.is_file():
        raise InputError(f"'{target}' is a device, which a file would replace. Name a new file.")
    _check_writable(target, target.parent)
    return target


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """Check that files can be written into a folder, which may not exist; nothing is left behind.

    Args:
        path: the folder; a bucket's URL is taken as it is, as only writing shows its permissions.

    Returns:
        The path.

    Raises:
        InputError: it is a file, lies below one, or cannot be written.
    """
    _check_scheme(path)
    target = Path(path)
    if is_url(os.fspath(path)):
        return target
    if target.exists() and not target.is_dir():
        raise InputError(f"'{target}' is a file, not a folder to write into. Choose another place.")
    _check_writable(target, target)
    return target


def check_apart(output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Check that what is written neither replaces an input nor lands among a folder's inputs.

    Args:
        output: the file or folder to write; of a bucket's URL nothing is known.
        inputs: the files and folders that are read.

    Raises:
        InputError: the output is one of them, or lies inside one.
    """
    if is_url(os.fspath(output)):
        return
    target = real_path(output)
    for place in inputs:
        source = real_path(place)
        if target != source and not (source in target.parents and source.is_dir()):
            continue
        where = "is also read" if target == source else f"lies inside '{place}', which is read"
        raise InputError(
            f"'{output}' {where}: what is written would mix with it or replace it. Choose another "
            "place."
        )


def check_room(path: str | os.PathLike[str], num_bytes: float, what: str) -> str:
    """Require so many free bytes where something will be written.

    Args:
        path: a file or folder, which may not exist; of a bucket's URL nothing is known.
        num_bytes: an estimate.
        what: what takes them, in the plural, for the message.

    Returns:
        what was found, in words.

    Raises:
        StorageFullError: there are fewer.
    """
    if is_url(os.fspath(path)):
        return f"about {_size(num_bytes)} in a bucket"
    place = _existing(Path(path))
    free = shutil.disk_usage(place).free
    if free < num_bytes:
        raise StorageFullError(
            f"The {what} take about {_size(num_bytes)}, but '{place}' has {_size(free)} free. "
            "Nothing has been done. Free some space, or write elsewhere."
        )
    return f"about {_size(num_bytes)} of {_size(free)} free"


def folder_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes of a file, or of all files in a folder; 0 of what is not there, or in a bucket."""
    place = Path(path)
    if place.is_file():
        return place.stat().st_size
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


def _check_scheme(path: str | os.PathLike[str]) -> None:
    """Refuse a misspelt URL, which would become a local folder such as ``s3:``.

    Raises:
        InputError: it begins as a URL, but is none that can be written to.
    """
    found = _LIKE_URL.match(os.fspath(path))
    if found is None or (is_url(os.fspath(path)) and found[1] in fsspec.available_protocols()):
        return
    raise InputError(
        f"'{path}' begins like a URL, but cannot be written to. A bucket's is 's3://BUCKET/FOLDER' "
        "(also gs and az), for commands that write folders; a local folder of that name is "
        f"'./{path}'."
    )


def _check_writable(target: Path, folder: Path) -> None:
    parent = _existing(folder)
    if not parent.is_dir():
        raise InputError(
            f"'{target}' cannot be written: '{parent}' is a file, not a folder. Choose another "
            "place."
        )
    try:
        # Asking for permission bits is not enough: root passes them, a read-only disk does not.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:  # reported with the amount of free space
            return
        raise InputError(
            f"'{target}' cannot be written: {error.strerror or error} ('{parent}'). Choose another "
            "place, or change the folder's permissions."
        ) from error


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _size(num_bytes: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1e3:.0f} kB"
