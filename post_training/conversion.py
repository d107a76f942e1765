"""Turn a data set of others into our recordings, one after the other.

Formats differ in how a recording is found and read; what happens to it is the same: damaged ones
are left out with their reason, finished ones are kept by a run that was stopped, and a manifest
lists all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import (
    ConfigError,
    MissingFileError,
    NumericsError,
    SampleError,
    VideoError,
)
from nemo_cosmos.storage.outputs import check_output_folder
from post_training.recordings import Recordings

#: Writes one recording.
Write = Callable[[], None]


@dataclass
class ConversionReport:
    """What became of a data set.

    Attributes:
        folder: where the recordings are.
        num_converted: recordings in the folder.
        num_reused: those of them that an earlier run had finished.
        rejected: the reason for each recording that was left out.
        num_views: cameras of each recording.
    """

    folder: str
    num_converted: int = 0
    num_reused: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    num_views: int = 1

    def to_json(self) -> JsonObject:
        """Plain data."""
        return asdict(self)


def convert_all(
    kind: Recordings,
    out: str | os.PathLike[str],
    settings: Mapping[str, Any],
    recordings: Mapping[str, tuple[str, Write]],
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Write all recordings; those that an earlier run finished stay as they are.

    Args:
        kind: what the recordings become.
        out: folder for them and their manifest.
        settings: what decides them, recorded in the manifest.
        recordings: the name of each in its data set and what writes it, by its key.
        progress: called with the number of recordings done and the number in all.

    Raises:
        ConfigError: the folder holds recordings of other settings.
        StorageFullError: no space left; finished recordings are intact.
    """
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()}
    check_output_folder(out)
    _check_settings(kind, out, settings)
    report = ConversionReport(os.fspath(out))
    keys = []
    for done, (key, (name, write)) in enumerate(recordings.items(), 1):
        try:
            if Path(out, f"{key}.json").exists():  # it is written last
                report.num_reused += 1
            else:
                write()
        except (MissingFileError, SampleError, NumericsError, VideoError) as error:
            report.rejected[name] = str(error)
        else:
            keys.append(key)
        if progress:
            progress(done, len(recordings))
    report.num_converted = len(keys)
    kind.write_manifest(out, settings, keys)
    return report


def _check_settings(
    kind: Recordings, out: str | os.PathLike[str], settings: Mapping[str, Any]
) -> None:
    """Keep the settings from the start on, so that a stopped run is continued with the same."""
    found = kind.read_manifest(out)
    if found is None:
        kind.write_manifest(out, settings, [])
    elif found["settings"] != settings:
        raise ConfigError(
            f"'{os.fspath(out)}' holds episodes of other settings: {found['settings']} instead of "
            f"{settings}. Choose another folder, or delete it."
        )
