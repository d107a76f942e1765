"""Check where a command will write, before it works for minutes."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from nemo_cosmos.errors import InputError


def check_output_file(path: str | os.PathLike[str]) -> Path:
    """Check that a file can be written; nothing is left behind.

    Args:
        path: the file; parent folders that do not exist are made when it is written.

    Returns:
        The path.

    Raises:
        InputError: it is a folder, lies below a file, or its folder cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"'{target}' is a folder; expected the name of a file to write.")
    parent = target.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(
            f"'{target}' cannot be written: '{parent}' is a file, not a folder. Choose another "
            "place."
        )
    try:
        # Asking for permission bits is not enough: root passes them, a read-only disk does not.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:  # reported with the amount of free space when it is written
            return target
        raise InputError(
            f"'{target}' cannot be written: {error.strerror or error} ('{parent}'). Choose another "
            "place, or change the folder's permissions."
        ) from error
    return target
