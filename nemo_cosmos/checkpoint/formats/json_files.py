"""JSON objects on disk, and configurations of other libraries read without overlooking a field."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import CheckpointError


def read_object(file: Path) -> JsonObject | None:
    """Read a JSON object; None where there is no such file, empty where it holds something else.

    Raises:
        CheckpointError: it is not valid JSON.
    """
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"'{file}' is not valid JSON: {error}. Export or copy the folder again."
        ) from error
    return data if isinstance(data, dict) else {}


def write_object(file: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_fields(
    data: Mapping[str, object],
    file: Path,
    honoured: Collection[str],
    fixed: Mapping[str, Collection[object]],
) -> None:
    """Refuse a configuration with a field that would be ignored.

    Args:
        data: the configuration; names that begin with an underscore are the library's own.
        file: where it was read from.
        honoured: fields whose every value is taken over, or has no effect.
        fixed: fields of which only these values can be expressed here.

    Raises:
        CheckpointError: names the first field that is unknown or has another value.
    """
    for name, value in data.items():
        if name.startswith("_") or name in honoured:
            continue
        if name not in fixed:
            raise CheckpointError(
                f"'{file}' has {name}={value!r}, which is unknown here and would be ignored. The "
                "model is of a newer kind than the Cosmos 1 models that can be imported."
            )
        if value not in fixed[name]:
            valid = " or ".join(repr(one) for one in fixed[name])
            raise CheckpointError(
                f"'{file}' has {name}={value!r}, but only {valid} can be imported: with another "
                "value the model computes something else."
            )
