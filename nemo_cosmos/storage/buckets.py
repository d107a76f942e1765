"""Objects of a bucket: listed, fetched to a local file and put, each whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import obstore

from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.storage.atomic import atomic_path
from nemo_cosmos.storage.urls import BUCKET_OPTIONS, clear_errors

if TYPE_CHECKING:
    from obstore import GetOptions

#: Of one request, so that a cut connection costs little and memory is bounded.
PART_BYTES = 16 * 1024 * 1024
_PARTS_AT_ONCE = 4


class StoredObject(NamedTuple):
    """One version of an object.

    Attributes:
        url: the object's URL.
        size_bytes: the object's length.
        version: the object's entity tag, which changes with the content.
    """

    url: str
    size_bytes: int
    version: str


def list_objects(folder: str, deep: bool = True) -> Iterator[StoredObject]:
    """The objects below a URL, in no special order; none where there are none.

    Args:
        folder: URL up to the last slash.
        deep: whether to list objects at any depth, or only those without a further slash.

    Raises:
        MissingFileError: there is no such bucket, or it may not be listed.
        ServiceError: the storage gave no answer in all tries.
    """
    bucket, store, prefix = _open(folder)
    with clear_errors(folder):
        if not deep:
            chunks = iter([store.list_with_delimiter(prefix or None)["objects"]])
        else:
            chunks = store.list(prefix or None)
        for chunk in chunks:
            for entry in chunk:
                yield _stored(bucket, entry)


def find_object(url: str) -> StoredObject | None:
    """The object at a URL, or None where there is none; raises as :func:`list_objects`."""
    bucket, store, key = _open(url)
    try:
        with clear_errors(url):
            return _stored(bucket, store.head(key)) if key else None
    except MissingFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def fetch_object(item: StoredObject, path: Path) -> None:
    """Copy an object to a local file.

    Raises:
        MissingFileError: it is gone, was replaced since it was listed, or may not be read.
        ServiceError: the storage gave no answer in all tries.
        StorageFullError: no space left.
    """
    _, store, key = _open(item.url)
    wanted: GetOptions = {"if_match": f'"{item.version}"'} if item.version else {}
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        for begin in range(0, max(1, item.size_bytes), PART_BYTES):
            end = min(begin + PART_BYTES, item.size_bytes)
            if end > begin:
                wanted["range"] = (begin, end)
            with clear_errors(item.url):
                handle.write(obstore.get(store, key, options=wanted).bytes())


def put_object(path: Path, url: str) -> StoredObject:
    """Copy a local file into a bucket; readers see the earlier object until it is complete.

    Raises:
        MissingFileError: there is no such bucket, or it may not be written to.
        ServiceError: the storage gave no answer in all tries.
    """
    bucket, store, key = _open(url)
    with clear_errors(url):
        obstore.put(store, key, path, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        return _stored(bucket, store.head(key))


def delete_object(url: str) -> None:
    """Remove an object, if it is there; raises as :func:`put_object`."""
    _, store, key = _open(url)
    with clear_errors(url):
        store.delete(key)


def _open(url: str) -> tuple[str, Any, str]:
    """URL of the bucket, its store, and the path inside it."""
    scheme, _, path = url.partition("://")
    bucket, _, key = path.partition("/")
    root = f"{scheme}://{bucket}"
    with clear_errors(url):
        return root, obstore.store.from_url(root, **BUCKET_OPTIONS), key.strip("/")


def _stored(bucket: str, entry: Any) -> StoredObject:
    # Azure quotes the tag of an object, and not the same tag in a list.
    version = (entry["e_tag"] or "").strip('"')
    return StoredObject(f"{bucket}/{entry['path']}", entry["size"], version)
