"""The weights of a TorchScript archive (``autoencoder.jit``) without running or compiling it.

``torch.jit.load`` compiles the code in the archive, which is not safe for a file from elsewhere. An
archive is a zip: ``data.pkl`` describes the module tree, ``data/<key>`` holds the bytes of each
tensor. The reader here knows the few names that describe a tensor and turns every object of the
archive's own classes into a bag of attributes; it refuses all other names, so nothing runs.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo_cosmos.checkpoint.formats.tensors import TensorSpec
from nemo_cosmos.errors import CheckpointError, MissingFileError

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _StoredTensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Module:
    """A stand-in for any object of the archive's own classes: attributes, no behaviour."""

    def __init__(self, *_: object) -> None:
        self.attributes: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _record_tensor(
    storage: object, offset: int, shape: Iterable[int], stride: Iterable[int], *_: object
) -> _StoredTensor:
    """A stand-in for ``torch._utils._rebuild_tensor_v2``."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _StoredTensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _keep_first(value: object, *_: object) -> object:
    """A stand-in for the functions that only annotate a list or dictionary with its type."""
    return value


_KNOWN_NAMES: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _record_tensor,
    **{
        ("torch.jit._pickle", name): _keep_first
        for name in (
            *("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"),
            "restore_type_tag",
        )
    },
    **{("torch", name): dtype for name, dtype in _STORAGE_DTYPES.items()},
}


class _ArchiveUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Resolve a known name to its stand-in; refuse all others."""
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) not in _KNOWN_NAMES:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return _KNOWN_NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """Record where the bytes of a tensor are."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"a reference to {kind!r}")
        return _Storage(str(key), dtype)


class JitSource:
    """The parameters and buffers of a TorchScript archive.

    Args:
        file: such as ``autoencoder.jit``.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is not a TorchScript archive, is damaged, or describes anything but
            modules and tensors.
    """

    def __init__(self, file: Path) -> None:
        self.place = str(file)
        self._file = file
        if not file.is_file():
            raise MissingFileError(f"There is no file '{file}'. Check the spelling.")
        try:
            with zipfile.ZipFile(file) as archive:
                self._prefix = _prefix(archive)
                root = _ArchiveUnpickler(io.BytesIO(archive.read(f"{self._prefix}data.pkl"))).load()
        # A damaged pickle raises nearly anything. Nothing of it has run, and to the caller all of
        # it is the same refusal.
        except Exception as error:
            raise self._refusal(error) from error
        self._tensors = dict(_walk(root))
        self.specs = {
            name: TensorSpec(tensor.shape, tensor.storage.dtype)
            for name, tensor in self._tensors.items()
        }
        if not self.specs:
            raise self._refusal(pickle.UnpicklingError("no tensor"))

    def read(self, name: str) -> Tensor:
        """Return one tensor; the archive's checksum of its bytes is verified."""
        stored = self._tensors[name]
        try:
            with zipfile.ZipFile(self._file) as archive:
                content = bytearray(archive.read(f"{self._prefix}data/{stored.storage.key}"))
            flat = torch.frombuffer(content, dtype=stored.storage.dtype)
            return flat.as_strided(stored.shape, stored.stride, stored.offset).clone(
                memory_format=torch.contiguous_format
            )
        except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"'{self._file}' is not a TorchScript archive with nothing but weights in its tables: "
            f"it holds {error}. It is damaged or not a tokenizer; nothing of it was run. Copy it "
            "again, or give the tokenizer's model.pt."
        )


def _prefix(archive: zipfile.ZipFile) -> str:
    """Return the folder inside the archive, which is named after the file that was written."""
    tables = [name for name in archive.namelist() if name.count("/") == 1]
    found = [name for name in tables if name.endswith("/data.pkl")]
    if len(found) != 1 or not any("/code/" in name for name in archive.namelist()):
        raise pickle.UnpicklingError("no module tree and code")
    return found[0].removesuffix("data.pkl")


def _walk(module: object, prefix: str = "") -> Iterator[tuple[str, _StoredTensor]]:
    """Yield names and tensors of a module tree."""
    for name, value in getattr(module, "attributes", {}).items():
        if isinstance(value, _StoredTensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _walk(value, f"{prefix}{name}.")
