"""Read cosmos-curate's T5 pickles without running any code in them.

The files hold ``[array(n, 1024)]``. Loading a pickle calls whatever functions it names, so this
reader knows only three names and replaces each by a small recorder: NumPy never sees the file's
instructions, only the raw numbers that the recorders have checked.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.errors import MissingFileError, SampleError

_FLOAT_CODES = ("f2", "f4", "f8")
_BYTE_ORDERS = ("<", "=", ">")


class _RecordedType:
    """Stands for ``numpy.dtype``: keeps a floating-point code and the byte order."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in _FLOAT_CODES:
            raise pickle.UnpicklingError(f"numbers of type {code!r}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] not in _BYTE_ORDERS:
            raise pickle.UnpicklingError(f"byte order {state[1]!r}")
        self.order = state[1]


class _RecordedArray:
    """Stands for ``numpy.ndarray``: keeps the raw numbers as a checked array."""

    def __init__(self, *_: object) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _RecordedType) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array of objects")
        flat = np.frombuffer(data, np.dtype(dtype.order + dtype.code))
        self.array = flat.reshape(shape, order="F" if is_fortran else "C")


_KNOWN_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _RecordedArray,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _RecordedArray,  # NumPy 2
    ("numpy", "ndarray"): _RecordedArray,
    ("numpy", "dtype"): _RecordedType,
}


class _NumbersUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Return the recorder for a known name; refuse all others."""
        if (module, name) not in _KNOWN_NAMES:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return _KNOWN_NAMES[module, name]


def read_t5_pickle(path: str | os.PathLike[str]) -> list[np.ndarray]:
    """Read the embeddings of a cosmos-curate ``t5_xxl`` pickle.

    Args:
        path: a file that holds a list of arrays ``(n, D)``, trimmed to the length of each prompt.

    Returns:
        The arrays, float16 or wider as stored.

    Raises:
        MissingFileError: the file does not exist or cannot be read.
        SampleError: it is not such a pickle, or names anything but arrays of numbers.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise MissingFileError(
            f"The T5 pickle '{path}' cannot be read: {error.strerror}. Check the spelling."
        ) from error
    return parse_t5_pickle(data, f"'{os.fspath(path)}'")


def parse_t5_pickle(content: bytes, where: str) -> list[np.ndarray]:
    """Return the arrays of a ``t5_xxl`` pickle; see :func:`read_t5_pickle`.

    Args:
        content: the file's bytes.
        where: the file, for messages.

    Raises:
        SampleError: it is not such a pickle, or names anything but arrays of numbers.
    """
    try:
        loaded = _NumbersUnpickler(io.BytesIO(content)).load()
    # A damaged pickle raises nearly anything. None of it has run, and the caller gets one refusal.
    except Exception as error:
        raise _refusal(where, f"it holds {error}") from error
    arrays = [getattr(item, "array", None) for item in loaded] if isinstance(loaded, list) else []
    checked = [array for array in arrays if array is not None and array.ndim == 2]
    if not checked or len(checked) != len(arrays):
        raise _refusal(where, f"it holds {type(loaded).__name__} of something else")
    return checked


def _refusal(where: str, reason: str) -> SampleError:
    return SampleError(
        f"{where} is not a T5 pickle of cosmos-curate: {reason}. Expected a list of "
        "floating-point arrays (n, channels); nothing else is unpickled, because a pickle can run "
        "code. Write the embeddings again as safetensors with 'nemo-cosmos curate'."
    )
