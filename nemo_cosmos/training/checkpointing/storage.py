"""Room and permission to write checkpoints, and one clear error where either is missing."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.distributed.checkpoint.api import CheckpointException

from nemo_cosmos.errors import ConfigError, StorageFullError
from nemo_cosmos.training.run_folder import list_checkpoints

FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TORN_WRITES = ("unexpected pos", "PytorchStreamWriter failed writing", "file write failed")
"""What torch's zip writer says where the system refused to write; it leaves out the reason."""


def check_room(folder: Path, num_bytes: int) -> None:
    """Require so many free bytes where a folder is or will be.

    Raises:
        StorageFullError: there are fewer.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < num_bytes:
        raise StorageFullError(
            f"A checkpoint of this run takes about {num_bytes / 1e9:.2f} GB, but '{place}' has "
            f"{free_bytes / 1e9:.2f} GB free. Training has not started. Free some space, or write "
            "elsewhere with log.log_dir=..."
        )


def check_writable(folder: Path) -> None:
    """Require that files can be written into a folder, which is made.

    Raises:
        ConfigError: they cannot; says why.
    """
    probe = folder / f".tmp-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"0")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"The run's folder '{folder}' cannot be written: {error.strerror}. Training has not "
            "started. Choose another place with log.log_dir=..., or change its permissions."
        ) from error


@contextmanager
def clear_storage_errors(folder: Path) -> Iterator[None]:
    """Turn what a full disk makes of training into one clear error.

    Megatron-Core writes in child processes, passes their errors on as text, and raises them when it
    next checks a background save, which may be steps later.

    Args:
        folder: the run's folder.

    Raises:
        StorageFullError: the disk is full; what was saved before is intact.
    """
    try:
        yield
    except (OSError, RuntimeError, CheckpointException) as error:
        signs = (*(os.strerror(number) for number in FULL_ERRORS), *TORN_WRITES)
        if not any(sign in str(error) for sign in signs):
            raise
        saved = list_checkpoints(folder)
        newest = f"'{saved[-1][0].name}' is intact" if saved else "there is none yet"
        raise StorageFullError(
            f"No space left while saving into '{folder}'. The unfinished checkpoint is not used; "
            f"of the complete ones, {newest}. Free some space and run the same command again: it "
            "resumes from there."
        ) from error
