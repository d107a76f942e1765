"""Notice RLDS data sets, which nothing here reads, and name the way in.

RLDS (Open X-Embodiment's form) is TensorFlow Datasets' TFRecord files with ``features.json`` and
``dataset_info.json`` beside them. Reading them takes ``tensorflow-datasets`` with TensorFlow, which
wants a NumPy and a protobuf of its own beside NeMo's. LeRobot's scripts turn them into a LeRobot
data set once, in an environment of their own.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from nemo_cosmos.errors import InputError

_DESCRIPTIONS = ("features.json", "dataset_info.json")
_DEPTH = 3
"""Folders down to the records: ``bridge_dataset/1.0.0/*.tfrecord-00000-of-01024``."""


def find_rlds(place: str | os.PathLike[str]) -> Path | None:
    """Return the folder of an RLDS data set at or below a place; None where there is none.

    Args:
        place: a folder, or a file.
    """
    level = [Path(place) if Path(place).is_dir() else Path(place).parent]
    for _ in range(_DEPTH):
        level = [folder for folder in level if os.access(folder, os.R_OK | os.X_OK)]
        for folder in level:
            if any((folder / name).is_file() for name in _DESCRIPTIONS):
                if next(folder.glob("*.tfrecord*"), None) is not None:
                    return folder
            elif next(folder.glob("*.tfrecord-*-of-*"), None) is not None:
                return folder
        level = [below for folder in level for below in sorted(folder.iterdir()) if below.is_dir()]
    return None


def refuse_rlds(place: str | os.PathLike[str]) -> None:
    """Refuse an RLDS data set with the way to read it.

    Args:
        place: a folder or file on disk, which may be no such data set.

    Raises:
        InputError: it is one.
    """
    try:
        folder = find_rlds(place) if Path(place).exists() else None
    except PermissionError:  # for those to report who read it
        return
    if folder is None:
        return
    raise InputError(
        f"'{folder}' is an RLDS data set (TFRecord files), which only TensorFlow reads; expected "
        "Bridge's or LeRobot's form. Convert it with LeRobot's scripts "
        "(github.com/huggingface/lerobot, 'port_datasets'), in an environment of their own, then: "
        f"nemo-cosmos convert lerobot {shlex.quote(f'{folder.name}_lerobot')} EPISODES"
    )
