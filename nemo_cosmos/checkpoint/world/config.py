"""What ``config.json`` of a world folder records, whichever family the model is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nemo_cosmos.errors import CheckpointError, MissingFileError
from nemo_cosmos.models.common.family import (
    FamilySettings,
    ModelDescription,
    WorldInfo,
    available_families,
    get_family,
)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FOLDER = "tokenizer"
DESCRIPTION_FILE = "nemo_cosmos.json"
"""Beside weights of another format: the content of ``config.json``."""

VERSION = 1
_FORMAT_PREFIX = "nemo_cosmos."


@dataclass(frozen=True)
class WorldConfig:
    """All that generation needs to know besides the weights.

    Attributes:
        family: name of the model's family, such as ``"diffusion"``.
        model: the family's own settings.
        text_encoder: arguments of ``load_text_encoder``: kind, path, max_length, dim.
        video: the training videos: num_frames, fps, height, width.
        preset: name of the preset that the model was made from, for provenance.
        control: name of the registered control; None without one.
        control_options: arguments that the control is built with.
    """

    family: str
    model: FamilySettings
    text_encoder: Mapping[str, Any]
    video: Mapping[str, Any]
    preset: str | None = None
    control: str | None = None
    control_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ModelDescription, info: WorldInfo) -> Self:
        """Put together what a model says of itself and what its training data say."""
        return cls(
            family=model.family,
            model=model.settings,
            text_encoder=info.text_encoder,
            video=info.video,
            preset=model.preset,
            control=model.control,
            control_options=model.control_options,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        return {
            "format": _FORMAT_PREFIX + self.family,
            "version": VERSION,
            "preset": self.preset,
            **self.model.to_dict(),
            "text_encoder": dict(self.text_encoder),
            "control": self.control,
            "control_options": dict(self.control_options),
            "video": dict(self.video),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from the content of ``config.json``.

        Raises:
            CheckpointError: it is of another format or version, or lacks an entry.
            ConfigError: the family refuses a value.
        """
        name = _family_of(data)
        family = get_family(name)
        missing = [key for key in (*family.config_keys, "text_encoder", "video") if key not in data]
        if missing:
            raise CheckpointError(
                f"The configuration lacks {', '.join(missing)}. The folder is incomplete; export "
                "or copy it again."
            )
        return cls(
            family=name,
            model=family.read_settings({key: data[key] for key in family.config_keys}),
            text_encoder=data["text_encoder"],
            video=data["video"],
            preset=data.get("preset"),
            control=data.get("control"),
            control_options=data.get("control_options") or {},
        )


def _family_of(data: Mapping[str, Any]) -> str:
    """Return the name of the family that a ``config.json`` is of.

    Raises:
        CheckpointError: it is of no known family, or of another version.
    """
    format, version = data.get("format"), data.get("version")
    known = available_families()
    name = format.removeprefix(_FORMAT_PREFIX) if isinstance(format, str) else ""
    if name not in known or format == name or version != VERSION:
        formats = " or ".join(f"'{_FORMAT_PREFIX}{one}'" for one in known)
        raise CheckpointError(
            f"The configuration is of format '{format}' version {version}; expected {formats}, "
            f"version {VERSION}. It is not a world model of this release."
        )
    return name


def write_config(file: Path, config: WorldConfig) -> None:
    """Write ``config.json``, or ``nemo_cosmos.json`` beside weights of another format."""
    file.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> WorldConfig:
    """Read ``config.json`` of a world folder.

    Raises:
        MissingFileError: there is none.
        CheckpointError: it is damaged or of another format.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise MissingFileError(
            f"There is no '{file}'. A world-model folder holds {CONFIG_FILE}, {WEIGHTS_FILE} and "
            f"{TOKENIZER_FOLDER}/; training writes one to '<run>/export'."
        )
    return WorldConfig.from_dict(_read_json(file) or {})


def read_description(folder: Path) -> WorldConfig | None:
    """Read ``nemo_cosmos.json``; None where there is none.

    Raises:
        CheckpointError: it is damaged or of another release.
    """
    data = _read_json(folder / DESCRIPTION_FILE)
    return None if data is None else WorldConfig.from_dict(data)


def recorded_tokenizer(folder: Path) -> Path | None:
    """Return where the tokenizer was when training wrote a checkpoint; None if unknown."""
    place = (_read_json(folder / DESCRIPTION_FILE) or {}).get("tokenizer")
    return Path(place) if isinstance(place, str) else None


def format_of(folder: Path) -> str | None:
    """Return the format that a folder of ours names; None for any other place."""
    try:
        data = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = data.get("format") if isinstance(data, dict) else None
    return name if isinstance(name, str) and name.startswith(_FORMAT_PREFIX) else None


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"'{file}' is not valid JSON: {error}. Export or copy the folder again."
        ) from error
    return data if isinstance(data, dict) else {}
