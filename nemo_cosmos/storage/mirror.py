"""Make a place in a bucket the same as a local folder, piece by piece and resumably.

The last file says that the rest is complete: it is taken away before anything else changes and put
back at the end, so that a reader who finds it finds all the rest as it was written together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.storage.atomic import atomic_path
from nemo_cosmos.storage.buckets import StoredObject, delete_object, list_objects, put_object

#: What was put where by earlier calls, inside the folder.
RECORD_FILE = ".mirror.json"


class Mirrored(NamedTuple):
    """What a call of :func:`mirror_folder` did: numbers of files."""

    num_put: int
    num_kept: int
    num_deleted: int


def claim_place(folder: Path, url: str) -> None:
    """Make sure that a place in a bucket is this folder's own, before anything is put there.

    Raises:
        ConfigError: it holds objects that were not put there from this folder.
        MissingFileError: there is no such bucket, or it may not be listed.
        ServiceError: the storage gave no answer in all tries.
    """
    if _read_record(folder, _root(url)) is not None:
        return
    foreign = next((item for item in list_objects(url) if not _is_hidden(item.url)), None)
    if foreign is not None:
        raise ConfigError(
            f"'{url}' is not empty (it holds '{foreign.url}'), and was not written from "
            f"'{folder}'. Name a place in the bucket that is empty, or work in the folder that it "
            "was written from."
        )
    _write_record(folder, _root(url), {})


def mirror_folder(
    folder: Path,
    url: str,
    last: str,
    leave_out: Collection[str] = (),
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> Mirrored:
    """Copy what is new in a folder to a bucket, and delete there what the folder has no more.

    A file is left alone when its checksum is that of an earlier call and the object is the very one
    that was put then. Hidden files and folders are not copied; nothing is deleted but what earlier
    calls have put.

    Args:
        folder: local.
        url: place in the bucket; see :func:`claim_place`.
        last: the file, below the folder, that stands for the whole.
        leave_out: files that stay where they are.
        on_file: callback with the numbers of finished files and of all files.

    Raises:
        ConfigError: the place is another's.
        MissingFileError: there is no such bucket, or it may not be written to.
        ServiceError: the storage gave no answer in all attempts; the same call resumes.
    """
    claim_place(folder, url)
    root = _root(url)
    record = _read_record(folder, root) or {}
    there = {item.url.removeprefix(f"{root}/"): item for item in list_objects(root)}
    here = {name: _checksum(folder / name) for name in _files(folder) if name not in leave_out}
    same = {name for name in here if _is_same(record.get(name), here[name], there.get(name))}
    new = sorted(set(here) - same - {last})
    gone = sorted(set(record) - set(here))
    if new or gone or last not in same:
        if last in there:
            delete_object(f"{root}/{last}")
        new.append(last)
    # Noted before they are there, so that a run that is killed in between knows its own.
    record |= {name: [] for name in new}
    _write_record(folder, root, record)
    for name in gone:
        delete_object(f"{root}/{name}")
    record = {name: record[name] for name in here}
    for done, name in enumerate(new, 1):
        item = put_object(folder / name, f"{root}/{name}")
        record[name] = [here[name], item.size_bytes, item.version]
        _write_record(folder, root, record)
        on_file(done, len(new))
    return Mirrored(len(new), len(here) - len(new), len(gone))


def _root(url: str) -> str:
    return url.rstrip("/")


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return any(piece.startswith(".") for piece in name.split("/"))


def _checksum(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _is_same(recorded: list[object] | None, checksum: str, item: StoredObject | None) -> bool:
    return item is not None and recorded == [checksum, item.size_bytes, item.version]


def _read_record(folder: Path, root: str) -> dict[str, list[object]] | None:
    path = folder / RECORD_FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return dict(content["files"]) if content.get("url") == root else None


def _write_record(folder: Path, root: str, files: Mapping[str, list[object]]) -> None:
    with atomic_path(folder / RECORD_FILE) as temporary:
        temporary.write_text(json.dumps({"url": root, "files": files}), encoding="utf-8")
