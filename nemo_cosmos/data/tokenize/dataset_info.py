"""Read ``dataset.json``: what made a folder of tokenised data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.options import Range, check_record, check_value
from nemo_cosmos.provenance.belonging import ALLOWED_KEY, Parts
from nemo_cosmos.storage import filesystem_of, is_url, open_url, resolve_from_folder

DATASET_FILE = "dataset.json"
FORMAT, VERSION = "nemo_cosmos.latents", 1
TOKENIZER_KEYS = ("tokenizer_name", "encoder_sha256", "latent_stats")
"""What identifies the tokenizer of the latents."""
_TOKENIZER_CONFIG = "config.json"
_COUNTS = {"num_samples": 0, "num_clips": 0}
"""Entries that are whole numbers, and the smallest that each may be."""
_RECORDS = ("skipped", "window", "latent_stats", "text_encoder")
_TEXTS = ("tokenizer", "tokenizer_name", "encoder_sha256")
_KNOWN = ("format", "version", *_COUNTS, *_RECORDS, *_TEXTS, "latent_shape", ALLOWED_KEY)


def read_dataset_info(folder: str | os.PathLike[str]) -> JsonObject:
    """Return the content of ``dataset.json``.

    An entry that is not there is for whoever needs it to ask for.

    Raises:
        MissingFileError: there is none.
        ConfigError: it is not JSON, of another format or version, or holds an entry that is unknown
            or of another type.
    """
    location = f"{os.fspath(folder).rstrip('/')}/{DATASET_FILE}"
    if not is_url(location) and Path(folder).is_dir() and not Path(location).is_file():
        raise MissingFileError(
            f"'{os.fspath(folder)}' is not a folder of tokenised data: it has no {DATASET_FILE}, "
            "which 'nemo-cosmos tokenize' writes when it is done. Tokenize curated shards first; "
            "name the folder itself, not one above or below; or run a stopped command again."
        )
    with open_url(location) as handle:
        try:
            info: JsonObject = json.loads(handle.read())
        except ValueError as error:
            raise ConfigError(
                f"'{location}' is not JSON: {error}. Tokenize the data again."
            ) from error
    check_dataset_info(info, location)
    return info


def check_dataset_info(info: object, place: str) -> None:
    """Require all of a ``dataset.json`` to be known and of its type.

    A name that nobody reads would be ignored without a word.

    Args:
        info: the content.
        place: the file, for messages.

    Raises:
        ConfigError: it is of another format or version, or an entry is unknown or of another type.
    """
    again = "Tokenize the data again, or correct the entry."
    if not isinstance(info, Mapping):
        raise ConfigError(f"'{place}' is {info!r:.80}; expected an object of entries. {again}")
    format, version = info.get("format", FORMAT), info.get("version", VERSION)
    if format != FORMAT or version != VERSION:
        raise ConfigError(
            f"'{place}' is of format '{format}' version {version}; this nemo_cosmos reads "
            f"'{FORMAT}' version {VERSION}. Tokenize the data again, or install the nemo_cosmos "
            "that wrote it."
        )
    try:
        _check_entries(check_record(info, DATASET_FILE, _KNOWN))
    except ConfigError as error:
        raise ConfigError(f"'{place}' cannot be read: {error} {again}") from error


def _check_entries(info: Mapping[str, Any]) -> None:
    for name in _TEXTS:
        check_value(name, info.get(name), str | None)
    for name, least in _COUNTS.items():
        check_value(name, info.get(name), int | None, Range(least=least))
    positive = Range(least=1)
    check_value("latent_shape", info.get("latent_shape", ()), tuple[int, ...], positive)
    check_value(ALLOWED_KEY, info.get(ALLOWED_KEY, ()), tuple[str, ...])
    records = {name: info.get(name) or {} for name in _RECORDS}
    for name, record in records.items():
        check_record(record, name, record)
    window = check_record(records["window"], "window", [one.name for one in fields(TokenizeConfig)])
    check_value("window.window_frames", window.get("window_frames", 1), int, positive)
    check_value("window.size", window.get("size", (1, 1)), tuple[int, int], positive)
    stats = check_record(records["latent_stats"], "latent_stats", ("mean", "std"))
    for name in stats:
        check_value(f"latent_stats.{name}", stats[name], tuple[float, ...])
    for name in ("max_length", "dim"):
        check_value(f"text_encoder.{name}", records["text_encoder"].get(name), int | None, positive)


def parts_of_data(folder: str | os.PathLike[str]) -> Parts | None:
    """Return what tokenised data were made of; None where there is no ``dataset.json``.

    A model may bring what the file would say (``world=WorldInfo(...)``).

    Raises:
        ConfigError: the file is damaged, or of another version.
    """
    try:
        return parts_of_info(read_dataset_info(folder), os.fspath(folder))
    except MissingFileError:
        return None


def parts_of_info(info: JsonObject, place: str) -> Parts:
    """Return what the content of a ``dataset.json`` says of the data's making.

    Args:
        info: the content, or the part of it that describes encoders.
        place: the folder, for messages.
    """
    text: JsonObject = info.get("text_encoder") or {}
    shape: list[int] = info.get("latent_shape") or []
    model = {
        "text_channels": text.get("dim"),
        "latent_channels": shape[0] if len(shape) == 4 else None,  # codes have no channels
    }
    return Parts(
        place,
        tokenizer={key: info[key] for key in TOKENIZER_KEYS if info.get(key) is not None},
        text_encoder=text,
        model={name: value for name, value in model.items() if value is not None},
    )


def check_tokenizer(folder: str | os.PathLike[str]) -> None:
    """Require the tokenizer that made the latents: a trained model is exported together with it.

    Args:
        folder: a folder of tokenised data.

    Raises:
        MissingFileError: there is no ``dataset.json``, or no tokenizer where it says.
        ConfigError: ``dataset.json`` does not name one.
    """
    written = read_dataset_info(folder).get("tokenizer")
    if not isinstance(written, str):
        raise ConfigError(
            f"'{os.fspath(folder)}/{DATASET_FILE}' does not name the tokenizer of its latents, "
            "which the trained model is exported with. Tokenize the data again, or give the model "
            "world=WorldInfo(...)."
        )
    place = resolve_from_folder(written, folder)
    filesystem, path = filesystem_of(place)
    if not filesystem.exists(f"{path}/{_TOKENIZER_CONFIG}"):
        raise MissingFileError(
            f"'{place}' is not a tokenizer folder: it has no {_TOKENIZER_CONFIG}. The latents of "
            f"'{os.fspath(folder)}' were made with it, and the world model needs it to decode. Put "
            f"it back, write its new place into {DATASET_FILE}, or give the model "
            "world=WorldInfo(...)."
        )
