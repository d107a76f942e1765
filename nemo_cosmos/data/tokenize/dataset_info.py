"""Read ``dataset.json``: what made a folder of tokenised data."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.provenance.belonging import Parts
from nemo_cosmos.storage import filesystem_of, is_url, open_url, resolve_from_folder

DATASET_FILE = "dataset.json"
TOKENIZER_KEYS = ("tokenizer_name", "encoder_sha256", "latent_stats")
"""What identifies the tokenizer of the latents."""
_TOKENIZER_CONFIG = "config.json"


def read_dataset_info(folder: str | os.PathLike[str]) -> JsonObject:
    """Return the content of ``dataset.json``.

    Raises:
        MissingFileError: there is none.
        ConfigError: it is not JSON.
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
    return info


def parts_of_data(folder: str | os.PathLike[str]) -> Parts | None:
    """Return what tokenised data were made of; None where there is no ``dataset.json``.

    A model may bring what the file would say (``world=WorldInfo(...)``).

    Raises:
        ConfigError: the file is not JSON.
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
