"""Open a file anywhere, read parts of it, and write it whole or not at all."""

from nemo_cosmos.storage.atomic import atomic_path, clean_up, explained_when_full, is_full
from nemo_cosmos.storage.buckets import (
    StoredObject,
    delete_object,
    fetch_object,
    find_object,
    list_objects,
    put_object,
)
from nemo_cosmos.storage.mirror import Mirrored, claim_place, mirror_folder
from nemo_cosmos.storage.paths import path_from_folder, resolve_from_folder
from nemo_cosmos.storage.ranges import FileStamp, read_ranges, stamp_of, write_bytes
from nemo_cosmos.storage.run_export import EXPORT_FOLDER, exported_folder
from nemo_cosmos.storage.urls import filesystem_of, is_bucket, is_url, open_url
from nemo_cosmos.storage.work_folder import work_folder_of

__all__ = [
    "EXPORT_FOLDER",
    "FileStamp",
    "Mirrored",
    "StoredObject",
    "atomic_path",
    "claim_place",
    "clean_up",
    "delete_object",
    "explained_when_full",
    "exported_folder",
    "fetch_object",
    "filesystem_of",
    "find_object",
    "is_bucket",
    "is_full",
    "is_url",
    "list_objects",
    "mirror_folder",
    "open_url",
    "path_from_folder",
    "put_object",
    "read_ranges",
    "resolve_from_folder",
    "stamp_of",
    "work_folder_of",
    "write_bytes",
]
