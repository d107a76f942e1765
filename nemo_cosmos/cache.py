"""The user's cache folder: assets, work folders of runs that write to a bucket, kernels' times."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "NEMO_COSMOS_CACHE"


def cache_dir() -> Path:
    """The cache folder: ``$NEMO_COSMOS_CACHE``, else ``nemo_cosmos`` in the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(chosen or f"{base}/nemo_cosmos").expanduser()
