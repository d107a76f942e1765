"""Read ``dataset.json``: what made a folder of tokenised data."""

from __future__ import annotations

import json
import os

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.storage import filesystem_of, open_url, resolve_from_folder

DATASET_FILE = "dataset.json"
_TOKENIZER_CONFIG = "config.json"


def read_dataset_info(folder: str | os.PathLike[str]) -> JsonObject:
    """Return the content of ``dataset.json``.

    Raises:
        MissingFileError: there is none.
        ConfigError: it is not JSON.
    """
    location = f"{os.fspath(folder).rstrip('/')}/{DATASET_FILE}"
    with open_url(location) as handle:
        try:
            info: JsonObject = json.loads(handle.read())
        except ValueError as error:
            raise ConfigError(
                f"'{location}' is not JSON: {error}. Tokenize the data again."
            ) from error
    return info


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
