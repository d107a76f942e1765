"""One run at a time in an output folder, and no leftovers of one that was killed."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.storage import clean_up, explained_when_full


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output folder for this process; the system lets go of it when the process ends.

    Raises:
        ConfigError: another run holds it.
        StorageFullError: no space left for what the block writes there.
    """
    work = output / ".work"
    with explained_when_full(output):
        work.mkdir(parents=True, exist_ok=True)
        with (work / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"Another run is writing to '{output}'. Wait for its end, or choose another "
                    "output folder."
                ) from error
            for leftover in [*output.glob(".tmp-*"), *work.rglob(".tmp-*")]:
                clean_up(leftover)
            yield
