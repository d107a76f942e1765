"""Retention: which sources and data sets are past their time, and their deletion.

A plan is made first and deletes nothing. Deletion overwrites a file once with random bytes before
it is unlinked, so that it cannot be read back from a disk that writes in place; copy-on-write file
systems, SSDs and object stores keep old blocks for a while, which encryption at rest must cover.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from data_curation.catalogue import entities as e
from data_curation.catalogue.catalogue import Catalogue
from data_curation.catalogue.documents import Document
from data_curation.deduplication.index import INDEX_FOLDER
from nemo_cosmos.data.shards.layout import VERSION_FOLDER

RAW_DAYS = 90
PROCESSED_DAYS = 365
#: Of an output folder: shards, waiting clips and thumbnails, embeddings, and the report.
_WITH_PICTURES = (VERSION_FOLDER, ".work", INDEX_FOLDER, "report.html")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Removal:
    """Something that is past its time.

    Attributes:
        kind: ``raw`` for a source, ``processed`` for what a run made.
        name: the source's or version's name.
        path: file, or the output folder of the run.
        parts: paths to delete: the file, or all of the folder that shows or describes pictures.
        size_bytes: total size of these files.
        age_days: since it was recorded.
        ids: ids of the documents about it.
        keep_because: why it is left nevertheless; empty where it is not.
    """

    kind: Literal["raw", "processed"]
    name: str
    path: str
    parts: tuple[str, ...]
    size_bytes: int
    age_days: int
    ids: tuple[str, ...]
    keep_because: str = ""


def plan_removals(
    catalogue: Catalogue, raw_days: int = RAW_DAYS, processed_days: int = PROCESSED_DAYS
) -> list[Removal]:
    """List what is older than the policy allows, without touching anything.

    A folder of shards counts as old when its newest version is. A source that was changed since it
    was recorded is listed and kept: it is not the file that the policy speaks of.
    """
    now = catalogue.now()
    raw = sorted(_raw(catalogue, now, raw_days), key=lambda each: each.path)
    return [*raw, *_processed(catalogue, now, processed_days)]


def remove(
    catalogue: Catalogue,
    removals: Iterable[Removal],
    advance: Callable[[Removal], None] = lambda _: None,
) -> int:
    """Delete what a plan lists, and mark it in the catalogue; the facts about it stay.

    Returns:
        bytes that were deleted.
    """
    total_bytes = 0
    for removal in removals:
        if removal.keep_because:
            continue
        for part in map(Path, removal.parts):
            for file in list(_files(part)):
                shred(file)
            _remove_empty_folders(part)
        collection = e.VIDEO if removal.kind == "raw" else e.DATASET
        when = catalogue.now().isoformat(timespec="seconds")
        catalogue.store.mark(collection, removal.ids, {"deleted": when})
        total_bytes += removal.size_bytes
        advance(removal)
    return total_bytes


def shred(path: Path) -> None:
    """Overwrite a file with random bytes, flush them to the disk, and unlink it.

    A symbolic link is unlinked; what it points to is not touched. So is a file with another name
    elsewhere (a hard link), whose content somebody else may need.
    """
    if path.is_symlink() or path.stat().st_nlink > 1:
        path.unlink()
        return
    with path.open("r+b") as handle:
        left = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        while left > 0:
            left -= handle.write(secrets.token_bytes(min(left, _CHUNK_BYTES)))
        handle.flush()
        os.fsync(handle.fileno())
    hidden = path.with_name(secrets.token_hex(8))
    path.rename(hidden)
    hidden.unlink()


def _raw(catalogue: Catalogue, now: datetime, max_days: int) -> Iterator[Removal]:
    for video in catalogue.store.find(e.VIDEO, {"recorded": {"$lt": _before(now, max_days)}}):
        if video["deleted"] or not video["location"]:
            continue
        path = Path(video["location"])
        if not path.is_file():
            continue
        stat = path.stat()
        same = (stat.st_size, stat.st_mtime_ns) == (video["size_bytes"], video["modified_ns"])
        yield Removal(
            "raw",
            video["name"],
            str(path),
            (str(path),),
            stat.st_size,
            _age_days(now, video["recorded"]),
            (video["_id"],),
            "" if same else "changed since it was recorded",
        )


def _processed(catalogue: Catalogue, now: datetime, max_days: int) -> Iterator[Removal]:
    folders: dict[str, list[Document]] = {}
    for dataset in catalogue.datasets():
        if not dataset["deleted"]:
            folders.setdefault(dataset["output"], []).append(dataset)
    for output, versions in sorted(folders.items()):
        newest = max(versions, key=lambda each: str(each["created"]))
        parts = [Path(output, name) for name in _WITH_PICTURES if Path(output, name).exists()]
        if newest["created"] >= _before(now, max_days) or not parts:
            continue
        yield Removal(
            "processed",
            f"{newest['name']}@{newest['version']}",
            output,
            tuple(map(str, parts)),
            sum(file.lstat().st_size for part in parts for file in _files(part)),
            _age_days(now, newest["created"]),
            tuple(each["_id"] for each in versions),
        )


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_symlink() or file.is_file())


def _remove_empty_folders(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        return
    for parent, _, _ in os.walk(path, topdown=False):
        Path(parent).rmdir()


def _before(now: datetime, days: int) -> str:
    return (now - timedelta(days=days)).isoformat(timespec="seconds")


def _age_days(now: datetime, recorded: str) -> int:
    return (now - datetime.fromisoformat(recorded)).days
