"""Open a file anywhere, and write it whole or not at all."""

from nemo_cosmos.storage.atomic import atomic_path
from nemo_cosmos.storage.urls import is_url, open_url

__all__ = ["atomic_path", "is_url", "open_url"]
