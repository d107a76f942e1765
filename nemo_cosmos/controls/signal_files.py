"""The file of a signal: an ``.npy`` or ``.npz`` without Python objects."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import (
    MissingFileError,
    NemoCosmosError,
    SampleError,
)

Values: TypeAlias = Mapping[str, Array]
"""The arrays of a signal by name; an ``.npy`` has one, named as the signal."""

#: Endings of a signal's file.
ENDINGS = (".npy", ".npz")


def name_of(suffix: str) -> str:
    """Name of the signal in a file: ``action`` for ``action.npy``."""
    return suffix.rsplit(".", 1)[0]


def decode_arrays(suffix: str, content: bytes, where: str) -> dict[str, Array]:
    """Decode an ``.npy`` or ``.npz`` file; pickled objects are refused.

    Args:
        suffix: the file's name after the sample's key.
        content: the file's bytes.
        where: the sample or file, for messages.

    Raises:
        SampleError: it is damaged, or is of another kind.
    """
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if suffix.endswith(".npy"):
                return {name_of(suffix): loaded}
            raise ValueError("it is a single array (.npy)")
        with loaded:  # an .npz decodes an array when it is taken, so errors surface in here
            if suffix.endswith(".npz"):
                return {name: loaded[name] for name in loaded.files}
        raise ValueError("it holds several arrays (.npz)")
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, NemoCosmosError):
            raise
        reason = str(error).rstrip(".")
        if "pickle" in reason:
            # NumPy takes all that it does not know for pickles, and advises to load these, which
            # could run code.
            is_known = content.startswith((b"\x93NUMPY", b"PK", b"\x80"))
            reason = "it holds Python objects" if is_known else "it is no file of NumPy's"
        raise SampleError(
            f"'{suffix}' of {where} cannot be read as an array of numbers: {reason}. Write it "
            "again with numpy.save or numpy.savez (no objects), or leave it out."
        ) from error


def encode_arrays(suffix: str, values: Values) -> bytes:
    """Return the content of an ``.npy`` or ``.npz`` file."""
    buffer = io.BytesIO()
    if suffix.endswith(".npy"):
        (array,) = values.values()
        np.save(buffer, array, allow_pickle=False)
    else:
        # Masks of objects are mostly zeros.
        np.savez_compressed(buffer, **cast("dict[str, Any]", dict(values)))
    return buffer.getvalue()


def read_signal(path: str | PathLike[str]) -> Array | dict[str, Array]:
    """Read a person's signal file, as generation takes it.

    Args:
        path: an ``.npy`` or ``.npz`` file on disk.

    Returns:
        The array of an ``.npy``; the arrays by name of an ``.npz``.

    Raises:
        MissingFileError: there is no such file.
        SampleError: it is of another kind, or damaged.
    """
    file = Path(path)
    if file.suffix not in ENDINGS:
        raise SampleError(
            f"'{file}' is not a signal file: expected the ending {' or '.join(ENDINGS)}. Write "
            "one with numpy.save or numpy.savez."
        )
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file '{file}'. Check the spelling.") from error
    except OSError as error:
        raise SampleError(f"'{file}' cannot be read: {error}. Check its permissions.") from error
    arrays = decode_arrays(file.name, content, f"'{file.parent}'")
    return arrays if file.suffix == ".npz" else next(iter(arrays.values()))
