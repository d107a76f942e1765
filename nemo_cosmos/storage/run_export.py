"""Where the folder of a training run holds the trained model."""

from __future__ import annotations

import os
from pathlib import Path

from nemo_cosmos.home import expanded
from nemo_cosmos.options import check_place

EXPORT_FOLDER = "export"
_CONFIG_FILE = "config.json"


def exported_folder(path: str | os.PathLike[str]) -> Path:
    """The folder of a model that a person names: itself, or the folder of the run that exported it.

    Args:
        path: a world or tokenizer folder, or a run's folder.

    Returns:
        ``<path>/export`` where that is an exported model and the path itself is none; else the
        path, ``~`` expanded.
    """
    check_place("the folder", path)
    folder = expanded(os.fspath(path))
    export = folder / EXPORT_FOLDER
    is_run = not (folder / _CONFIG_FILE).is_file() and (export / _CONFIG_FILE).is_file()
    return export if is_run else folder
