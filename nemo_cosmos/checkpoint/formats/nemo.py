"""NeMo distributed checkpoints (``torch_dist``): read box by box, verified, and written streaming.

A checkpoint's ``weights/`` holds ``.metadata``, a pickle with the place of every part of every
tensor in the ``*.distcp`` files; ``common.pt`` with what is not split; and ``metadata.json``, which
is written last. PyTorch unpickles ``.metadata`` without restriction; :func:`read_metadata` resolves
only the classes that describe tensors and refuses all other names, so nothing in it can run.
Training calls :func:`verify_checkpoint` before Megatron-Core touches a checkpoint.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint import filesystem, metadata, planner

from nemo_cosmos.errors import CheckpointError, DamagedCheckpointError, MissingFileError

WEIGHTS_FOLDER = "weights"
TABLE_FILE, COMMON_FILE, FORMAT_FILE = ".metadata", "common.pt", "metadata.json"
BACKEND = "torch_dist"

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Offsets and sizes of a rectangular part of a tensor."""


class _Inert:
    """A stand-in for bookkeeping that the reader does not need."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _layout(_: object) -> torch.layout:
    """A stand-in for ``torch.serialization._get_layout``: checkpoints hold dense tensors."""
    return torch.strided


_DESCRIPTIONS = (
    metadata.Metadata,
    metadata.TensorStorageMetadata,
    metadata.BytesStorageMetadata,
    metadata.ChunkStorageMetadata,
    metadata.TensorProperties,
    metadata.MetadataIndex,
    metadata._MEM_FORMAT_ENCODING,
    filesystem._StorageInfo,
    planner.WriteItemType,
)
_BOOKKEEPING = (
    ("torch.distributed.checkpoint.metadata", "StorageMeta"),
    ("torch.distributed.checkpoint.planner", "SavePlan"),
    ("torch.distributed.checkpoint.planner", "WriteItem"),
    ("torch.distributed.checkpoint.planner", "TensorWriteData"),
    ("megatron.core.dist_checkpointing.strategies.torch", "MCoreMetadata"),
    ("megatron.core.dist_checkpointing.strategies.torch", "MCoreSavePlan"),
    ("pathlib", "PosixPath"),
)
_KNOWN_NAMES: dict[tuple[str, str], object] = {
    **{(kind.__module__, kind.__qualname__): kind for kind in _DESCRIPTIONS},
    **dict.fromkeys(_BOOKKEEPING, _Inert),
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): _layout,
}


class _TableUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Resolve the classes that describe tensors; refuse all other names."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in _KNOWN_NAMES:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return _KNOWN_NAMES[module, name]


def weights_folder(checkpoint: str | os.PathLike[str] | None) -> Path:
    """Return the folder with the distributed tensors of a NeMo checkpoint.

    Args:
        checkpoint: the checkpoint's folder, or the ``weights`` folder in it.

    Raises:
        CheckpointError: there is no distributed checkpoint.
    """
    folder = Path(checkpoint or "").with_suffix("") if checkpoint else Path()
    inner = folder / WEIGHTS_FOLDER
    folder = inner if inner.is_dir() else folder
    if checkpoint is None or not (folder / FORMAT_FILE).is_file():
        raise DamagedCheckpointError(
            f"'{checkpoint}' is not a complete NeMo distributed checkpoint: it has no "
            f"'{FORMAT_FILE}' in '{WEIGHTS_FOLDER}/', which is written last. Give the folder of "
            "one checkpoint, such as '<run>/checkpoints/step=001000', or an earlier one."
        )
    return folder


def read_metadata(folder: Path) -> metadata.Metadata:
    """Read ``.metadata``, unpickled with nothing but classes that describe tensors.

    Args:
        folder: the folder of the distributed tensors.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is damaged or names anything else, which could run code.
    """
    file = folder / TABLE_FILE
    try:
        content = _TableUnpickler(io.BytesIO(file.read_bytes())).load()
    except OSError as error:
        raise MissingFileError(
            f"'{file}' cannot be read: {error.strerror}. The checkpoint is incomplete; use an "
            "earlier one, or copy it again."
        ) from error
    # A damaged pickle raises nearly anything. Nothing of it has run, and to the caller all of it is
    # the same refusal.
    except Exception as error:
        raise _bad_table(file, error) from error
    if not isinstance(content, metadata.Metadata):
        raise _bad_table(file, pickle.UnpicklingError(type(content).__name__))
    return content


def _bad_table(file: Path, error: Exception) -> DamagedCheckpointError:
    return DamagedCheckpointError(
        f"'{file}' is not the table of a distributed checkpoint: it holds {error}. It is damaged, "
        "or made to run code when it is loaded, and was not loaded. Use another checkpoint, or "
        "copy this one again."
    )


def verify_checkpoint(checkpoint: str | os.PathLike[str]) -> metadata.Metadata:
    """Require a checkpoint to be whole before anything of it is loaded.

    Every tensor's place must lie inside its file, and the checksums of ``common.pt`` must hold, so
    a truncated or partly copied checkpoint is found before training starts.

    Returns:
        The checkpoint's table.

    Raises:
        CheckpointError: it is incomplete or damaged; names the file.
    """
    folder = weights_folder(checkpoint)
    _check_format(folder / FORMAT_FILE)
    table = read_metadata(folder)
    ends: dict[str, int] = {}
    for place in table.storage_data.values():
        end = place.offset + place.length
        ends[place.relative_path] = max(ends.get(place.relative_path, 0), end)
    for name, num_bytes in sorted(ends.items()):
        file = folder / name
        found = file.stat().st_size if file.is_file() else 0
        if found < num_bytes:
            raise _truncated(file, f"it has {found} of at least {num_bytes} bytes")
    _check_archive(folder / COMMON_FILE)
    return table


def _check_format(file: Path) -> None:
    try:
        backend = json.loads(file.read_text(encoding="utf-8"))["sharded_backend"]
    except (ValueError, KeyError, TypeError) as error:
        raise _truncated(file, f"it is not the description of a checkpoint ({error})") from error
    if backend != BACKEND:
        raise CheckpointError(
            f"'{file.parent}' is a checkpoint of format '{backend}'; only '{BACKEND}' is read. "
            "Save it again with NeMo 2 in its default format."
        )


def _check_archive(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise _truncated(file, str(error)) from error
    if damaged:
        raise _truncated(file, f"the checksum of '{damaged}' is wrong")


def _truncated(file: Path, reason: str) -> DamagedCheckpointError:
    checkpoint = file.parent.parent if file.parent.name == WEIGHTS_FOLDER else file.parent
    return DamagedCheckpointError(
        f"The checkpoint '{checkpoint}' is damaged: of '{file.name}', {reason}. It was not loaded. "
        "Copy it again, or delete that folder: the run then resumes from the checkpoint before it."
    )


class NemoBoxes:
    """The tensors of a verified checkpoint, of which any rectangular part can be read.

    Args:
        checkpoint: the checkpoint's folder.

    Raises:
        CheckpointError: it is incomplete or damaged.
    """

    def __init__(self, checkpoint: str | os.PathLike[str]) -> None:
        self._table = verify_checkpoint(checkpoint)
        self._folder = weights_folder(checkpoint)
        self.place = str(self._folder)
        self.tensors: dict[str, metadata.TensorStorageMetadata] = {
            key: entry
            for key, entry in self._table.state_dict_metadata.items()
            if isinstance(entry, metadata.TensorStorageMetadata)
        }

    def read_box(self, key: str, box: Box) -> Tensor:
        """Read a part of a tensor.

        Args:
            key: the tensor's name in the checkpoint.
            box: place and size of the part.
        """
        entry = self.tensors[key]
        whole = torch.empty(box[1], dtype=entry.properties.dtype)
        for chunk in entry.chunks:
            target, source = _overlap(box, (tuple(chunk.offsets), tuple(chunk.sizes)))
            if target is not None:
                whole[target] = self._read_chunk(key, tuple(chunk.offsets))[source]
        return whole

    def _read_chunk(self, key: str, offsets: tuple[int, ...]) -> Tensor:
        place = self._table.storage_data[metadata.MetadataIndex(key, offsets)]
        file = self._folder / place.relative_path
        with file.open("rb") as handle:
            handle.seek(place.offset)
            content = io.BytesIO(handle.read(place.length))
        try:
            tensor = torch.load(content, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
            raise _truncated(file, f"the part with '{key}' cannot be read") from error
        if not isinstance(tensor, Tensor):
            raise _truncated(file, f"'{key}' is no tensor")
        return tensor


def _overlap(
    box: Box, chunk: Box
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | tuple[None, tuple[slice, ...]]:
    """Locate the common part of a box and a chunk in each of them; None if there is none."""
    target, source = [], []
    for box_begin, box_size, begin, size in zip(*box, *chunk, strict=True):
        first, last = max(box_begin, begin), min(box_begin + box_size, begin + size)
        if first >= last:
            return None, ()
        target.append(slice(first - box_begin, last - box_begin))
        source.append(slice(first - begin, last - begin))
    return tuple(target), tuple(source)
