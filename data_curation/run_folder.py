"""A run's folder: one run at a time works in it, and leftovers of a killed run are removed."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_curation.sources.files import FETCHED
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.storage import clean_up, explained_when_full, is_full


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Lock an output folder for this process; the system unlocks it when the process ends.

    Raises:
        ConfigError: another run holds the lock, or the folder cannot be written to.
        StorageFullError: no space left for what the block writes there.
    """
    work = output / ".work"
    with explained_when_full(output):
        try:
            work.mkdir(parents=True, exist_ok=True)
            lock = (work / "lock").open("w", encoding="utf-8")
        except OSError as error:
            if is_full(error):
                raise
            raise ConfigError(
                f"The output folder '{output}' cannot be written to: {error.strerror}. Choose "
                "another, or change its permissions."
            ) from error
        with lock as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"Another run is writing to '{output}'. Wait until it ends, or choose another "
                    "output folder."
                ) from error
            for leftover in [*output.glob(".tmp-*"), *work.rglob(".tmp-*"), work / FETCHED]:
                clean_up(leftover)
            yield
