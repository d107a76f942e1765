"""One run at a time works in an output folder, and what a killed one left is removed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.storage.atomic import clean_up, explained_when_full, is_full

WORK_FOLDER = ".work"
"""Folder inside an output that holds what a run needs to go on after a stop."""


@contextmanager
def claimed(output: str | os.PathLike[str], leftovers: Iterable[str] = ()) -> Iterator[None]:
    """Lock an output folder for this process; the system unlocks it when the process ends.

    Args:
        output: the folder; made if it is missing.
        leftovers: names in its work folder that only a killed run leaves.

    Raises:
        ConfigError: another run holds the lock, or the folder cannot be written to.
        StorageFullError: no space left for what the block writes there.
    """
    folder = Path(output)
    work = folder / WORK_FOLDER
    with explained_when_full(folder):
        try:
            work.mkdir(parents=True, exist_ok=True)
            lock = (work / "lock").open("w", encoding="utf-8")
        except OSError as error:
            if is_full(error):
                raise
            raise ConfigError(
                f"The output folder '{folder}' cannot be written to: {error.strerror}. Choose "
                "another, or change its permissions."
            ) from error
        with lock as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"Another run is writing to '{folder}'. Wait until it ends, or choose another "
                    "output folder."
                ) from error
            named = [work / name for name in leftovers]
            for leftover in [*folder.glob(".tmp-*"), *work.rglob(".tmp-*"), *named]:
                clean_up(leftover)
            yield
