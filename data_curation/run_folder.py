"""One run at a time in an output folder, and no leftovers of one that was killed."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_cosmos.errors import ConfigError


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output folder for this process; the system lets go of it when the process ends.

    Raises:
        ConfigError: another run holds it.
    """
    work = output / ".work"
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"Another run is writing to '{output}'. Wait for its end, or choose another output "
                "folder."
            ) from error
        _sweep(output)
        yield


def _sweep(output: Path) -> None:
    """Delete what killed processes left behind; see :func:`nemo_cosmos.storage.atomic_path`."""
    leftovers = [*output.glob(".tmp-*"), *(output / ".work").rglob(".tmp-*")]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
