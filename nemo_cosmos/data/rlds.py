"""Notice RLDS data sets where another form is expected, and name the command that reads them.

RLDS (Open X-Embodiment's form) is TensorFlow Datasets' TFRecord files with ``features.json`` and
``dataset_info.json`` beside them.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from nemo_cosmos.errors import InputError

_DESCRIPTIONS = ("features.json", "dataset_info.json")
_DEPTH = 3
"""Folders down to the records: ``bridge_dataset/1.0.0/*.tfrecord-00000-of-01024``."""


def list_rlds(place: str | os.PathLike[str]) -> list[Path]:
    """Return the folders of the RLDS data sets that lie highest at or below a place.

    Args:
        place: a folder, or a file.
    """
    if not Path(place).exists():
        return []
    level = [Path(place) if Path(place).is_dir() else Path(place).parent]
    for _ in range(_DEPTH):
        level = [folder for folder in level if os.access(folder, os.R_OK | os.X_OK)]
        if found := [folder for folder in level if _holds_records(folder)]:
            return found
        level = [below for folder in level for below in sorted(folder.iterdir()) if below.is_dir()]
    return []


def _holds_records(folder: Path) -> bool:
    described = any((folder / name).is_file() for name in _DESCRIPTIONS)
    pattern = "*.tfrecord*" if described else "*.tfrecord-*-of-*"
    return next(folder.glob(pattern), None) is not None


def refuse_rlds(place: str | os.PathLike[str]) -> None:
    """Refuse an RLDS data set with the command that reads it.

    Args:
        place: a folder or file on disk, which may be no such data set.

    Raises:
        InputError: it is one.
    """
    try:
        found = list_rlds(place)
    except PermissionError:  # for those to report who read it
        return
    if not found:
        return
    raise InputError(
        f"'{found[0]}' is an RLDS data set (TFRecord files); expected videos, or another form. "
        f"Convert it first: nemo-cosmos convert rlds {shlex.quote(str(found[0]))} EPISODES --fps "
        "HZ (no file says the rate of the robot)."
    )
