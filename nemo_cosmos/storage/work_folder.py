"""Where a run works whose results may go to a bucket."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from nemo_cosmos.cache import cache_dir
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.storage.urls import is_bucket, is_url


def work_folder_of(output: str | os.PathLike[str], work: str | os.PathLike[str] | None) -> Path:
    """The folder that a run works in: its output, or a local folder for an output in a bucket.

    Args:
        output: a folder or a bucket's URL.
        work: the user's choice for a bucket; by default a folder in the user's cache, one for each
            output.

    Raises:
        ConfigError: the output is a URL of another kind, or needs no work folder.
    """
    name = os.fspath(output)
    if is_bucket(name):
        place = name.rstrip("/")
        digest = hashlib.sha256(place.encode()).hexdigest()[:12]
        return Path(work or cache_dir() / "runs" / f"{Path(place).name}-{digest}")
    if is_url(name):
        raise ConfigError(
            f"Nothing can be written to '{name}'. Expected a folder on disk, or a URL that begins "
            "with s3://, gs:// or az://."
        )
    if work:
        raise ConfigError(
            f"A run that writes to the folder '{name}' works in that folder; leave out --work "
            f"'{work}'. It is for an output in a bucket."
        )
    return Path(name)
