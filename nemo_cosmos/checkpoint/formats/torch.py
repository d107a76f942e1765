"""``model.pt`` files, as the original Cosmos checkpoints are: read and written tensor by tensor.

Such a file is a zip archive: ``data.pkl`` says which tensors there are, ``data/<key>`` holds the
bytes of each. It is read with ``torch.load(weights_only=True, mmap=True)``, which runs no code and
maps the bytes instead of reading them.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from nemo_cosmos.checkpoint.formats.safetensors import tensor_bytes
from nemo_cosmos.checkpoint.formats.tensors import TensorSpec, TensorStream
from nemo_cosmos.errors import CheckpointError, MissingFileError

WRAPPERS = ("ema", "model", "state_dict")
"""Names under which training programs nest the weights; sampling uses the average."""

_REOPEN_BYTES = 4_000_000_000
_ALIGNMENT = 64
_ENTRY_HEADER_BYTES = 30  # of a zip entry, before its name
_ZIP64_EXTRA_BYTES = 20  # added to entries of 2 GiB and more
_EXTRA_HEADER = struct.Struct("<HH")
_PADDING_ID = 0x4246  # the field that torch itself pads with


class TorchFileSource:
    """The weights in a ``.pt`` file.

    Args:
        file: written by ``torch.save``: a state dict, or one below ``"ema"`` or ``"model"``.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is damaged, of the format before torch 1.6, holds no weights, or could
            run code when it is loaded.
    """

    def __init__(self, file: Path) -> None:
        self.place = str(file)
        self._file = file
        self._state = _unwrap(load_tensors(file), file)
        self._bytes_read = 0
        self.specs = {name: TensorSpec.of(tensor) for name, tensor in self._state.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor, copied out of the mapped file."""
        # Pages of a mapped file stay resident once read: map it again from time to time.
        if self._bytes_read > _REOPEN_BYTES:
            self._state, self._bytes_read = _unwrap(load_tensors(self._file), self._file), 0
        self._bytes_read += self.specs[name].num_bytes
        return self._state[name].detach().clone(memory_format=torch.contiguous_format)


def load_tensors(file: Path) -> object:
    """Map a file of ``torch.save`` that holds nothing but tensors and plain containers.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is damaged or could run code.
    """
    if not file.is_file():
        raise MissingFileError(f"There is no file '{file}'. Check the spelling.")
    if not zipfile.is_zipfile(file):
        raise CheckpointError(
            f"'{file}' is not a whole file of torch.save: it has no table of contents at its end. "
            "It was only partly copied, or is of the format before torch 1.6; copy it again, or "
            "load and save it once with a current torch."
        )
    try:
        content: object = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        return content
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"'{file}' holds more than tensors: {_first_line(error)} Loading it could run code, so "
            "it was not loaded. Save the state dict alone, with torch.save(model.state_dict(), "
            "path), where you trust the file."
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{file}' is not a readable file of torch.save: {_first_line(error)} It is damaged or "
            "was only partly copied; copy it again."
        ) from error


def _unwrap(content: object, file: Path) -> dict[str, Tensor]:
    """Return the innermost state dict: the average where there is one."""
    while isinstance(content, Mapping):
        nested = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
        nested = [name for name in nested if content[name]]
        if not nested:
            break
        content = content[nested[0]]
    state = content if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"'{file}' holds no weights but {type(content).__name__}. Expected a state dict, or "
            f"one below {' or '.join(repr(name) for name in WRAPPERS)}."
        )
    return tensors


def write_torch_file(file: Path, stream: TensorStream) -> None:
    """Write what ``torch.save`` would write of a state dict, one tensor in memory at a time."""
    prefix = file.stem
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _add(archive, f"{prefix}/data.pkl", memoryview(_pickle_specs(stream.specs)))
        _add(archive, f"{prefix}/byteorder", memoryview(b"little"))
        for key, (_, tensor) in enumerate(stream.tensors):
            _add(archive, f"{prefix}/data/{key}", tensor_bytes(tensor))
        _add(archive, f"{prefix}/version", memoryview(b"3\n"))


def _add(archive: zipfile.ZipFile, name: str, content: memoryview) -> None:
    """Add an entry whose bytes begin at a multiple of 64, so that they can be mapped."""
    entry = zipfile.ZipInfo(name)
    is_large = len(content) >= zipfile.ZIP64_LIMIT
    begin = archive.fp.tell() + _ENTRY_HEADER_BYTES + len(name)  # type: ignore[union-attr]
    begin += _ZIP64_EXTRA_BYTES * is_large + _EXTRA_HEADER.size
    padding = -begin % _ALIGNMENT
    entry.extra = _EXTRA_HEADER.pack(_PADDING_ID, padding) + bytes(padding)
    with archive.open(entry, "w", force_zip64=is_large) as handle:
        handle.write(content)


class _Storage:
    """A stand-in for the bytes of one tensor while the table of contents is pickled."""

    def __init__(self, key: int, spec: TensorSpec) -> None:
        self.key, self.spec = key, spec


class _Placeholder:
    """A stand-in for a tensor while the table of contents is pickled."""

    def __init__(self, key: int, spec: TensorSpec) -> None:
        self.storage = _Storage(key, spec)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        shape = self.storage.spec.shape
        stride = tuple(torch.empty(shape, device="meta").stride())
        arguments: tuple[object, ...] = (self.storage, 0, shape, stride, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


class _TablePickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> tuple[object, ...] | None:
        """Name a tensor's bytes as torch.save does."""
        if not isinstance(obj, _Storage):
            return None
        kind = torch.storage._dtype_to_storage_type_map()[obj.spec.dtype]
        size = prod(obj.spec.shape)
        return ("storage", getattr(torch, kind), str(obj.key), "cpu", size)


def _pickle_specs(specs: Mapping[str, TensorSpec]) -> bytes:
    """Pickle the table of contents of a state dict with these tensors."""
    table = OrderedDict(
        (name, _Placeholder(key, spec)) for key, (name, spec) in enumerate(specs.items())
    )
    buffer = io.BytesIO()
    _TablePickler(buffer, protocol=2).dump(table)
    return buffer.getvalue()


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith((".", "!", "?")) else f"{line}."
