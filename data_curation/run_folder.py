"""Where a run works: one at a time in a folder, and no leftovers of one that was killed."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_curation.source_files import FETCHED
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.storage import (
    cache_dir,
    clean_up,
    explained_when_full,
    is_bucket,
    is_full,
    is_url,
)


def run_folder_of(output: str | os.PathLike[str], work: str | os.PathLike[str] | None) -> Path:
    """The folder that a run works in: its output, or a folder here for an output in a bucket.

    Args:
        output: a folder or a bucket's URL.
        work: what a person chose for a bucket; by default a folder of the output's own in the
            user's cache.

    Raises:
        ConfigError: the output is a URL of something else, or needs no work folder.
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


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output folder for this process; the system lets go of it when the process ends.

    Raises:
        ConfigError: another run holds it, or it cannot be written to.
        StorageFullError: no space left for what the block writes there.
    """
    work = output / ".work"
    with explained_when_full(output):
        try:
            work.mkdir(parents=True, exist_ok=True)
            lock = (work / "lock").open("w")
        except OSError as error:
            if is_full(error):
                raise
            raise ConfigError(
                f"The output folder '{output}' cannot be written to: {error.strerror}. Choose "
                "another, or see to its permissions."
            ) from error
        with lock as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"Another run is writing to '{output}'. Wait for its end, or choose another "
                    "output folder."
                ) from error
            for leftover in [*output.glob(".tmp-*"), *work.rglob(".tmp-*"), work / FETCHED]:
                clean_up(leftover)
            yield
