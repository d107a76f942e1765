"""Paths written into a folder's files, which hold wherever one works and move with the folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nemo_cosmos.home import expanded
from nemo_cosmos.storage.urls import is_url

_HOME = re.compile(r"([=\[,])~(?=/|$)")


def expand_home(word: str) -> str:
    """Expand ``~`` in ``key=~/folder`` and ``key=[~/a,~/b]``; shells do not, behind ``=``."""
    home = expanded("~")
    return _HOME.sub(lambda match: f"{match[1]}{home}", word)


def real_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path without links; unlike ``Path.resolve()``, it bears links in a circle."""
    return Path(os.path.realpath(path))


def mp4_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The mp4 files of a folder, in order of name; links to nowhere are among them.

    Hidden ones are left out, such as the ``._name.mp4`` that macOS puts beside each file of a
    foreign disk.
    """
    return sorted(
        file
        for file in Path(folder).glob("*.mp4")
        if not file.name.startswith(".") and not file.is_dir()
    )


def path_from_folder(location: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """What to write into a file of ``folder`` to name another place.

    Args:
        location: path as it holds from the working folder, or a URL.
        folder: folder that the file is written to.

    Returns:
        A path relative to ``folder``; an absolute one where the two have no folder in common below
        the root; a URL unchanged.
    """
    name = os.fspath(location)
    if is_url(name) or is_url(folder):
        return name if is_url(name) else str(real_path(name))
    target, base = real_path(name), real_path(folder)
    shared = os.path.commonpath([target, base])
    return str(target) if shared == target.anchor else os.path.relpath(target, base)


def resolve_from_folder(written: str, folder: str | os.PathLike[str]) -> str:
    """The place that :func:`path_from_folder` wrote.

    Earlier releases wrote the path as it was typed; where there is nothing at the path from the
    folder, that is tried too.
    """
    if is_url(written) or is_url(folder) or Path(written).is_absolute():
        return written
    beside = Path(os.path.normpath(Path(folder) / written))
    return written if not beside.exists() and Path(written).exists() else str(beside)
