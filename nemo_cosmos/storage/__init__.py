"""Open a file anywhere, read parts of it, and write it whole or not at all."""

from nemo_cosmos.storage.atomic import atomic_path, clean_up, explained_when_full, is_full
from nemo_cosmos.storage.paths import path_from_folder, resolve_from_folder
from nemo_cosmos.storage.ranges import FileStamp, read_ranges, stamp_of, write_bytes
from nemo_cosmos.storage.urls import filesystem_of, is_url, open_url

__all__ = [
    "FileStamp",
    "atomic_path",
    "clean_up",
    "explained_when_full",
    "filesystem_of",
    "is_full",
    "is_url",
    "open_url",
    "path_from_folder",
    "read_ranges",
    "resolve_from_folder",
    "stamp_of",
    "write_bytes",
]
