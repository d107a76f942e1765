"""What ``config.json`` of a world folder records, whichever family the model is of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.formats.json_files import read_object, write_object
from nemo_cosmos.controls import ControlSpec, comparable_options
from nemo_cosmos.errors import CheckpointError, ConfigError, MissingFileError
from nemo_cosmos.models.common.family import (
    FamilySettings,
    ModelDescription,
    WorldFamily,
    WorldInfo,
    available_families,
    get_family,
)
from nemo_cosmos.models.common.text import check_text_encoder_spec
from nemo_cosmos.options import Range, check_record, check_value
from nemo_cosmos.provenance.belonging import ALLOWED_KEY, Parts

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FOLDER = "tokenizer"
DESCRIPTION_FILE = "nemo_cosmos.json"
"""Beside weights of another format: the content of ``config.json``."""

VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 had at most one control: ``control``, ``control_options``, weights ``control.*``."""

_HEAD = ("format", "version", "preset")
_CONTROLS = {1: ("control", "control_options"), 2: ("controls",)}
BASE_KEY = "base"
_RECORDS = ("made_with", ALLOWED_KEY, "tokenizer", BASE_KEY)
"""The last two are a checkpoint's: where the tokenizer was when training wrote it; and, where it
holds adapters alone, their base."""
_VIDEO: Mapping[str, type] = {"num_frames": int, "fps": float, "height": int, "width": int}
_MADE_WITH = ("tokenizer_name", "encoder_sha256", "latent_stats")

_FORMAT_PREFIX = "nemo_cosmos."
TOKENIZER_FORMAT = "nemo_cosmos.tokenizer"
"""What ``config.json`` of a tokenizer folder says, which is no world."""


@dataclass(frozen=True)
class WorldConfig:
    """All that generation needs to know besides the weights.

    Attributes:
        family: name of the model's family, such as ``"diffusion"``.
        model: the family's own settings.
        text_encoder: arguments of ``load_text_encoder``: kind, path, max_length, dim.
        video: the training videos: num_frames, fps, height, width.
        preset: name of the preset that the model was made from, for provenance.
        controls: what steers the model.
        made_with: what identifies the tokenizer of its latents: ``tokenizer_name``,
            ``encoder_sha256`` and ``latent_stats``.
        allowed_mismatch: differences between its parts that someone meant.
    """

    family: str
    model: FamilySettings
    text_encoder: Mapping[str, Any]
    video: Mapping[str, Any]
    preset: str | None = None
    controls: tuple[ControlSpec, ...] = ()
    made_with: Mapping[str, Any] = field(default_factory=dict)
    allowed_mismatch: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: ModelDescription, info: WorldInfo) -> Self:
        """Put together what a model says of itself and what its training data say."""
        return cls(
            family=model.family,
            model=model.settings,
            text_encoder=info.text_encoder,
            video=info.video,
            preset=model.preset,
            controls=model.controls,
            made_with=info.made_with,
        )

    def to_dict(self) -> JsonObject:
        """Return the content of ``config.json``."""
        content: JsonObject = {
            "format": _FORMAT_PREFIX + self.family,
            "version": VERSION,
            "preset": self.preset,
            **self.model.to_dict(),
            "text_encoder": dict(self.text_encoder),
            "controls": [spec.to_dict() for spec in self.controls],
            "video": dict(self.video),
        }
        if self.made_with:
            content["made_with"] = dict(self.made_with)
        if self.allowed_mismatch:
            content[ALLOWED_KEY] = list(self.allowed_mismatch)
        return content

    def parts(self, place: str) -> Parts:
        """What the world was made of, for :func:`check_together`.

        Args:
            place: where this is recorded, for messages.
        """
        return parts_of_model(
            self.family, self.model, self.controls, place,
            tokenizer=self.made_with,
            text_encoder=self.text_encoder,
            text_length=self.text_encoder.get("max_length"),
        )  # fmt: skip

    @classmethod
    def from_dict(cls, data: JsonObject) -> Self:
        """Rebuild from the content of ``config.json``.

        Raises:
            CheckpointError: it is of another format or version.
            ConfigError: a name that is unknown or missing, or an impossible value.
        """
        name = _family_of(data)
        family = get_family(name)
        _check_content(data, family)
        return cls(
            family=name,
            model=family.read_settings({key: data[key] for key in family.config_keys}),
            text_encoder=data["text_encoder"],
            video=data["video"],
            preset=data.get("preset"),
            controls=_controls_of(data),
            made_with=data.get("made_with") or {},
            allowed_mismatch=tuple(data.get(ALLOWED_KEY, ())),
        )


def parts_of_model(
    family: str, settings: FamilySettings, controls: Iterable[ControlSpec], place: str, **more: Any
) -> Parts:
    """What a model requires of whatever it is joined with.

    Args:
        family: the name of its family.
        settings: the family's own settings.
        controls: what steers it.
        place: where this is recorded, for messages.
        **more: the other fields of :class:`Parts`.
    """
    known = get_family(family)
    return Parts(
        place=place,
        family=family,
        model={**known.fixed_settings(settings), **known.data_settings(settings)},
        controls={spec.name: comparable_options(spec) for spec in controls},
        **more,
    )


def current_name(stored: str, data: JsonObject) -> str:
    """Return the name in the network of a weight in a folder's file.

    Args:
        stored: its name in the file.
        data: the content of the folder's ``config.json``, of either version.
    """
    if data.get("version") == 1 and stored.startswith("control."):
        return f"controls.{data.get('control')}.{stored.removeprefix('control.')}"
    return stored


def _controls_of(data: JsonObject) -> tuple[ControlSpec, ...]:
    """The controls that ``config.json`` records, in the form of either version."""
    if data["version"] == 1:
        name = data.get("control")
        return () if name is None else (ControlSpec(name, data.get("control_options") or {}),)
    names = ("name", "options")
    try:
        controls = [
            check_record(one, "controls", names, required=names) for one in data.get("controls", ())
        ]
        return tuple(
            ControlSpec(str(one["name"]), check_record(one["options"], "options", one["options"]))
            for one in controls
        )
    except (ConfigError, TypeError) as error:
        raise CheckpointError(
            f"The configuration's controls are {data['controls']!r:.80}; expected a list of "
            "objects with 'name' and 'options' alone. Export or copy the folder again."
        ) from error


def _check_content(data: JsonObject, family: WorldFamily) -> None:
    """Require all of ``config.json`` to be known, but for what only the family can check.

    A name that nobody reads would be ignored without a word.

    Raises:
        ConfigError: a name that is unknown or missing, or a value of another type.
    """
    sections = (*family.config_keys, "text_encoder", "video")
    known = (*_HEAD, *sections, *_CONTROLS[data["version"]], *_RECORDS)
    check_record(data, CONFIG_FILE, known, required=sections)
    for section in sections:
        check_record(data[section], section, data[section])
    check_text_encoder_spec(data["text_encoder"])
    check_record(data["video"], "video", _VIDEO, required=_VIDEO)
    for name, kind in _VIDEO.items():
        check_value(f"video.{name}", data["video"][name], kind, Range(above=0))
    check_record(data.get("made_with") or {}, "made_with", _MADE_WITH)
    check_value("preset", data.get("preset"), str | None)
    check_value(ALLOWED_KEY, data.get(ALLOWED_KEY, ()), tuple[str, ...])


def _family_of(data: JsonObject) -> str:
    """Return the name of the family that a ``config.json`` is of.

    Raises:
        CheckpointError: it is of no known family, or of another version.
    """
    format, version = data.get("format"), data.get("version")
    known = available_families()
    name = format.removeprefix(_FORMAT_PREFIX) if isinstance(format, str) else ""
    if name not in known or format == name or version not in READABLE_VERSIONS:
        formats = " or ".join(f"'{_FORMAT_PREFIX}{one}'" for one in known)
        raise CheckpointError(
            f"The configuration is of format '{format}' version {version}; expected {formats}, "
            f"version {VERSION}. It is not a world model of this release."
        )
    return name


def write_config(file: Path, config: WorldConfig) -> None:
    """Write ``config.json``, or ``nemo_cosmos.json`` beside weights of another format."""
    write_object(file, config.to_dict())


def read_config(folder: Path) -> WorldConfig:
    """Read ``config.json`` of a world folder.

    Raises:
        MissingFileError: there is none.
        CheckpointError: it is damaged or of another format.
        ConfigError: a name that is unknown or missing, or an impossible value.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise MissingFileError(
            f"There is no '{file}'. A world-model folder holds {CONFIG_FILE}, {WEIGHTS_FILE} and "
            f"{TOKENIZER_FOLDER}/; training writes one to '<run>/export'."
        )
    return _read(file)


def read_description(folder: Path) -> WorldConfig | None:
    """Read ``nemo_cosmos.json``; None where there is none.

    Raises:
        CheckpointError: it is damaged or of another release.
    """
    file = folder / DESCRIPTION_FILE
    return _read(file) if file.is_file() else None


def _read(file: Path) -> WorldConfig:
    try:
        return WorldConfig.from_dict(read_object(file) or {})
    except (CheckpointError, ConfigError) as error:
        if str(file) in str(error):
            raise
        raise type(error)(f"'{file}' cannot be used. {error}") from error


def recorded_tokenizer(folder: Path) -> Path | None:
    """Return where the tokenizer was when training wrote a checkpoint; None if unknown."""
    place = (read_object(folder / DESCRIPTION_FILE) or {}).get("tokenizer")
    return Path(place) if isinstance(place, str) else None


def recorded_base(folder: Path) -> JsonObject | None:
    """Return the base of a checkpoint that holds adapters alone; None of any other.

    Returns:
        ``folder`` and ``weights_sha256`` of the base.
    """
    base = (read_object(folder / DESCRIPTION_FILE) or {}).get(BASE_KEY)
    return base if isinstance(base, dict) else None


def check_holds_all(folder: Path) -> None:
    """Require a checkpoint to hold all weights of its model.

    Raises:
        CheckpointError: it holds adapters alone; says how to get a world of it.
    """
    base = recorded_base(folder)
    if base is not None:
        raise CheckpointError(
            f"'{folder}' holds the adapters of a run alone, not the weights of their base "
            f"'{base.get('folder')}'. To go on with that run, give the same peft_scheme=lora; to "
            "get a world of this step, run it again with trainer.max_steps at the step, and take "
            "'<run>/export', or '<run>/adapter' beside it."
        )


def format_of(folder: Path) -> str | None:
    """Return the format that a folder of ours names; None for any other place."""
    try:
        data = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = data.get("format") if isinstance(data, dict) else None
    return name if isinstance(name, str) and name.startswith(_FORMAT_PREFIX) else None
