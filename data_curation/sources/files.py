"""The files of one source: the video and its sidecars, on disk or in a bucket."""

from __future__ import annotations

import shutil
from pathlib import Path

from data_curation.clip import Clip
from nemo_cosmos.storage import fetch_object

#: Folder of the copies in the run's folder; whatever it contains when a run begins is left over.
FETCHED = "fetched"


def file_versions(source: Clip) -> dict[str, list[int | str]]:
    """Size and version of each file, by name: they differ when a file has changed."""
    if source.stored:
        return {_name(item.url): [item.size_bytes, item.version] for item in source.stored}
    files = [source.source, source.source.with_suffix(".json"), *source.arrays]
    stats = {file.name: file.stat() for file in files if file.exists()}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def fetch(source: Clip) -> None:
    """Copy a source in a bucket, with its sidecars, to where the clip says that it is.

    Raises:
        MissingFileError: a file is gone, was replaced since it was listed, or may not be read.
        ServiceError: the storage gave no answer in all tries.
        StorageFullError: no space left.
    """
    for item in source.stored:
        fetch_object(item, source.source.parent / _name(item.url))


def discard(source: Clip) -> None:
    """Remove what :func:`fetch` copied; a source on this machine stays."""
    if source.stored:
        shutil.rmtree(source.source.parent, ignore_errors=True)


def _name(url: str) -> str:
    return Path(url).name
