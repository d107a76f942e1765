"""The user's cache folder: assets, work folders of runs that write to a bucket, kernels' times."""

from __future__ import annotations

import os
from pathlib import Path

from nemo_cosmos.home import can_be_made, expanded, private_temporary_folder, user_folder

CACHE_VARIABLE = "NEMO_COSMOS_CACHE"


def cache_dir() -> Path:
    """The cache folder: ``$NEMO_COSMOS_CACHE``, else ``nemo_cosmos`` in the user's cache.

    Where the user's cache is neither there nor can be made (no home, or a read-only one), it is a
    folder of the user's own among the temporary files.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return expanded(chosen)
    folder = user_folder("XDG_CACHE_HOME")
    # A cache that is filled may be read-only, such as one that an image brings.
    return folder if folder.is_dir() or can_be_made(folder) else private_temporary_folder()
