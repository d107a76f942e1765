"""What is looked at before a checkpoint is converted: its place, the new folder, and the room."""

from __future__ import annotations

import os
from pathlib import Path

from nemo_cosmos.checklist import Check
from nemo_cosmos.errors import InputError, MissingFileError
from nemo_cosmos.storage.outputs import check_output_folder, check_room, folder_bytes

Place = str | os.PathLike[str]


def conversion_checks(source: Place, target: Place) -> list[Check]:
    """Return what to look at before a checkpoint is read.

    Args:
        source: the checkpoint.
        target: the new folder.
    """
    place, folder = Path(source), Path(target)

    def there() -> str:
        if not place.exists():
            raise MissingFileError(f"There is no '{place}'. Check the spelling.")
        return f"'{place}'"

    def output() -> str:
        _check_new(folder)
        return f"'{check_output_folder(folder)}' is free and can be written"

    def room() -> str:
        return check_room(folder, folder_bytes(place), "converted files")

    return [Check("source", there), Check("output", output), Check("room", room)]


def _check_new(folder: Path) -> None:
    """Require a place that is free.

    Raises:
        InputError: it is taken.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"'{folder}' exists and is not empty. Nothing is overwritten: name another folder, or "
            "delete this one."
        )
