"""Recordings on disk: a video, its arrays and its JSON in one folder, and a list of all.

The JSON is written last, so a recording with a JSON is complete. ``manifest.json`` lists all, with
the settings that they were made with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.controls import Values, encode_arrays
from nemo_cosmos.errors import ConfigError, MissingFileError, NumericsError, SampleError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import Video, encode_video

MANIFEST = "manifest.json"
CRF = 12  # visually lossless: the videos are training data


@dataclass(frozen=True)
class Recordings:
    """One kind of recordings.

    Attributes:
        format: what the manifest calls it.
        noun: what people call one, such as ``robot episode``.
        suffixes: the array files of each, such as ``action.npy``.
        required: keys that the JSON of each has.
        listed: keys that the manifest repeats.
    """

    format: str
    noun: str
    suffixes: tuple[str, ...]
    required: frozenset[str]
    listed: tuple[str, ...]

    def is_complete(self, folder: str | os.PathLike[str], key: str) -> bool:
        """Whether all files of a recording exist."""
        stem = Path(folder) / key
        return all(Path(f"{stem}.{end}").exists() for end in ("mp4", *self.suffixes, "json"))

    def complete_keys(self, folder: str | os.PathLike[str], pattern: str) -> list[str]:
        """Names of all complete recordings in a folder.

        Args:
            folder: the folder.
            pattern: what the names look like: ``episode_*``.
        """
        keys = sorted(file.stem for file in Path(folder).glob(f"{pattern}.json"))
        return [key for key in keys if self.is_complete(folder, key)]

    def read_record(self, folder: str | os.PathLike[str], key: str) -> JsonObject:
        """Read a recording's JSON.

        Raises:
            MissingFileError: it does not exist.
            SampleError: it is the JSON of something else.
        """
        file = Path(folder) / f"{key}.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MissingFileError(
                f"There is no episode '{key}' in '{folder}'. 'manifest.json' lists those that are."
            ) from error
        except json.JSONDecodeError as error:
            raise SampleError(
                f"'{file}' is not valid JSON ({error}). Delete it and run again."
            ) from error
        if not isinstance(record, dict) or not self.required <= set(record):
            names = " and ".join(f"'{name}'" for name in sorted(self.required, reverse=True))
            raise SampleError(
                f"'{file}' is not the description of a {self.noun}: expected the keys {names}."
            )
        return record

    def write_manifest(
        self, folder: str | os.PathLike[str], settings: Mapping[str, Any], keys: Iterable[str]
    ) -> Path:
        """List recordings, so that readers need not open each of them.

        Returns:
            The file ``folder/manifest.json``.
        """
        records = [self.read_record(folder, key) for key in keys]
        rows = [{name: record.get(name) for name in self.listed} for record in records]
        manifest = {"format": self.format, "version": 1, "settings": settings, "episodes": rows}
        target = Path(folder) / MANIFEST
        _write_json(target, manifest)
        return target

    def read_manifest(self, folder: str | os.PathLike[str]) -> JsonObject | None:
        """Return the manifest of a folder; None if there is none.

        Raises:
            SampleError: it is of another format.
        """
        file = Path(folder) / MANIFEST
        if not file.exists():
            return None
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            manifest = None
        if not isinstance(manifest, dict) or manifest.get("format") != self.format:
            raise SampleError(
                f"'{file}' is not a list of {self.noun}s (format '{self.format}'). Choose "
                "another folder."
            )
        return manifest

    def check_settings(
        self, folder: str | os.PathLike[str], settings: Mapping[str, Any]
    ) -> JsonObject | None:
        """Require that a folder holds nothing, or recordings of the same settings.

        Args:
            folder: the folder.
            settings: settings of the recordings to come, as plain data.

        Returns:
            The manifest of the folder; None if there is none.

        Raises:
            ConfigError: it holds recordings of other settings.
            SampleError: its manifest is of another format.
        """
        manifest = self.read_manifest(folder)
        # A manifest holds lists where Python may have tuples.
        if manifest and manifest["settings"] != json.loads(json.dumps(settings)):
            raise ConfigError(
                f"'{folder}' holds episodes of other settings: "
                f"{json.dumps(manifest['settings'])}; requested were {json.dumps(settings)}. "
                "Choose another folder, or the same settings."
            )
        return manifest


def write_recording(
    folder: str | os.PathLike[str],
    key: str,
    video: Video,
    files: Mapping[str, Values],
    record: Mapping[str, Any],
) -> None:
    """Write the files of a recording, the JSON last.

    Args:
        folder: the folder.
        key: the recording's name.
        video: its frames.
        files: the arrays of each file by its suffix, such as ``action.npy``.
        record: content of the JSON.

    Raises:
        NumericsError: an array holds NaN or infinity.
        StorageFullError: no space left; without its JSON the recording counts as not written.
    """
    stem = Path(folder) / key
    for suffix, values in files.items():
        numbers = [array for array in values.values() if array.dtype.kind in "fiu"]
        if not all(np.isfinite(array).all() for array in numbers):
            raise NumericsError(f"'{suffix}' of '{key}' holds NaN or infinity. Repair it.")
    Path(f"{stem}.json").unlink(missing_ok=True)
    encode_video(f"{stem}.mp4", video, crf=CRF)
    for suffix, values in files.items():
        with atomic_path(f"{stem}.{suffix}") as temporary:
            temporary.write_bytes(encode_arrays(suffix, values))
    _write_json(Path(f"{stem}.json"), record)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
