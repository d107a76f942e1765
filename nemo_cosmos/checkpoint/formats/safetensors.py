"""Safetensors on disk, read and written tensor by tensor, in one file or in shards.

Large models are split as Hugging Face libraries do: ``model-00001-of-00006.safetensors`` and so on,
with ``model.safetensors.index.json`` naming the shard of each tensor. A file is an 8-byte length, a
JSON header with the place of each tensor, and their bytes; see the safetensors specification.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nemo_cosmos.checkpoint.formats.tensors import TensorSpec, TensorStream
from nemo_cosmos.errors import CheckpointError, MissingFileError, counted

SHARD_BYTES = 5_000_000_000
INDEX_SUFFIX = ".index.json"
_SHARD = re.compile(r"-\d+-of-\d+$")
HUGGING_FACE = {"format": "pt"}
"""Metadata without which transformers and diffusers refuse a file."""
_ALIGNMENT = 8

# The safetensors library writes tensors in this order of their types.
_NAME_OF_DTYPE = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPE_OF_NAME = {name: dtype for dtype, name in _NAME_OF_DTYPE.items()}


class SafetensorsSource:
    """The weights in a safetensors file, or in the shards that its index names.

    Args:
        file: such as ``model.safetensors``; without it, ``model.safetensors.index.json`` beside it
            says where the tensors are.
        rename: function from a stored name to the one that the source offers; by default the same.

    Raises:
        MissingFileError: neither exists, or a shard does not.
        CheckpointError: a file is damaged, or the index disagrees with its shards.
    """

    def __init__(self, file: Path, rename: Callable[[str], str] | None = None) -> None:
        self.place = str(file)
        self.files = weight_files(file)
        self._file_of: dict[str, Path] = {}
        self.specs: dict[str, TensorSpec] = {}
        for path in self.files:
            for name, spec in _read_specs(path).items():
                self._file_of[name], self.specs[name] = path, spec
        self._check_index(file)
        rename = rename or (lambda name: name)
        self._stored = {rename(name): name for name in self.specs}
        self.specs = {name: self.specs[stored] for name, stored in self._stored.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor; only its part of the file is read."""
        return self.read_part(name, ())

    def read_part(self, name: str, part: tuple[slice, ...]) -> Tensor:
        """Return a rectangular part of one tensor; all of it for no slices."""
        stored = self._stored[name]
        path = self._file_of[stored]
        try:
            with safe_open(str(path), framework="pt") as file:
                return file.get_slice(stored)[part] if part else file.get_tensor(stored)
        except SafetensorError as error:
            raise _damaged(path, error) from error

    def _check_index(self, file: Path) -> None:
        """Refuse an index that names other tensors than its shards hold.

        Files of two models in one folder would otherwise load without a word.
        """
        if file.is_file():
            return
        named = _read_index(_index_of(file))
        wrong = sorted(name for name, shard in named.items() if self._name_of_file(name) != shard)
        wrong += sorted(self.specs.keys() - named.keys())
        if wrong:
            raise CheckpointError(
                f"'{file}{INDEX_SUFFIX}' and its shards disagree about "
                f"{counted(len(wrong), 'tensor')}, such "
                f"as '{wrong[0]}'. Files of two models are mixed, or a shard is damaged; copy the "
                "folder again."
            )

    def _name_of_file(self, name: str) -> str | None:
        path = self._file_of.get(name)
        return None if path is None else path.name


def has_weights(file: Path) -> bool:
    """Whether a safetensors file or its index exists."""
    return file.is_file() or _index_of(file).is_file()


def variant_of(file: Path) -> Path:
    """Return a file, or its only variant in another precision, as diffusers names them.

    Args:
        file: such as ``model.safetensors``; a variant is ``model.fp16.safetensors``, or the shards
            that ``model.safetensors.index.fp16.json`` names.
    """
    if has_weights(file):
        return file
    whole = file.parent.glob(f"{file.stem}.*{file.suffix}")
    variants = {path for path in whole if not _SHARD.search(path.stem)}
    for index in file.parent.glob(f"{file.name}.index.*.json"):
        variants.add(file.with_name(f"{file.stem}.{index.stem.rpartition('.')[2]}{file.suffix}"))
    return variants.pop() if len(variants) == 1 else file


def _index_of(file: Path) -> Path:
    """The index of a file's shards; that of a variant has the variant's name near its end."""
    usual = Path(f"{file}{INDEX_SUFFIX}")
    stem, _, variant = file.stem.rpartition(".")
    of_variant = file.with_name(f"{stem}{file.suffix}.index.{variant}.json")
    return of_variant if stem and of_variant.is_file() and not usual.is_file() else usual


def weight_files(file: Path) -> list[Path]:
    """Return the file itself, or the shards that its index names.

    Raises:
        MissingFileError: neither exists, or a shard does not.
        CheckpointError: the index is damaged.
    """
    if file.is_file():
        return [file]
    index = _index_of(file)
    if not index.is_file():
        raise MissingFileError(
            f"There is no '{file}', nor an index of shards '{index.name}' beside it. Copy the "
            "folder again, whole."
        )
    files = [file.parent / name for name in sorted(set(_read_index(index).values()))]
    for path in files:
        if not path.is_file():
            raise MissingFileError(
                f"'{index}' names the shard '{path.name}', which is not there. Copy the folder "
                "again, whole."
            )
    return files


def usual_order(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Order tensors as the safetensors library writes them: by type, then by name."""
    order = list(_NAME_OF_DTYPE)
    return dict(sorted(state.items(), key=lambda item: (order.index(item[1].dtype), item[0])))


def write_safetensors(
    file: Path,
    stream: TensorStream,
    shard_bytes: int = SHARD_BYTES,
    *,
    metadata: Mapping[str, str] | None = HUGGING_FACE,
) -> None:
    """Write a stream into one file, or into shards with an index where it is larger than one.

    One tensor is in memory at a time.

    Args:
        file: such as ``<folder>/model.safetensors``.
        stream: the tensors.
        shard_bytes: largest size of a shard; a larger tensor gets a shard of its own.
        metadata: texts in the header of each file; by default what Hugging Face's libraries need.
    """
    shards = _plan_shards(stream.specs, shard_bytes)
    tensors = iter(stream.tensors)
    if len(shards) == 1:
        _write_file(file, shards[0], tensors, metadata)
        return
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        name = f"{file.stem}-{number:05d}-of-{len(shards):05d}{file.suffix}"
        _write_file(file.parent / name, names, tensors, metadata)
        weight_map.update(dict.fromkeys(names, name))
    total = sum(spec.num_bytes for spec in stream.specs.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    Path(f"{file}{INDEX_SUFFIX}").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _plan_shards(specs: Mapping[str, TensorSpec], shard_bytes: int) -> list[dict[str, TensorSpec]]:
    """Cut the specs, in their order, into shards."""
    shards: list[dict[str, TensorSpec]] = [{}]
    size = 0
    for name, spec in specs.items():
        if shards[-1] and size + spec.num_bytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = spec
        size += spec.num_bytes
    return shards


def _write_file(
    path: Path,
    specs: Mapping[str, TensorSpec],
    tensors: Iterator[tuple[str, Tensor]],
    metadata: Mapping[str, str] | None,
) -> None:
    """Write the next tensors of a stream into one file."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, spec in specs.items():
        begin, end = end, end + spec.num_bytes
        header[name] = {
            "dtype": _NAME_OF_DTYPE[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        for expected, spec in specs.items():
            name, tensor = next(tensors)
            if name != expected or TensorSpec.of(tensor) != spec:
                raise AssertionError(f"the stream gave {name} where {expected} {spec} was due")
            handle.write(tensor_bytes(tensor))


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor in row-major order, without a copy where it is contiguous."""
    flat = tensor.detach().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data


def _read_specs(path: Path) -> dict[str, TensorSpec]:
    try:
        with safe_open(str(path), framework="pt") as file:
            specs = {}
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part = file.get_slice(name)
                dtype = _DTYPE_OF_NAME.get(part.get_dtype())
                if dtype is None:
                    raise CheckpointError(
                        f"'{name}' in '{path}' is of type {part.get_dtype()}, which no model here "
                        f"has. Expected one of {', '.join(_DTYPE_OF_NAME)}; convert the file."
                    )
                specs[name] = TensorSpec(tuple(part.get_shape()), dtype)
            return specs
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_index(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        named = {str(name): str(shard) for name, shard in weight_map.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"'{index}' is not an index of safetensors shards ({type(error).__name__}: {error}). "
            "Copy the folder again."
        ) from error
    for shard in named.values():
        if Path(shard).name != shard:
            raise CheckpointError(
                f"'{index}' names the shard '{shard}', which is outside its folder. Shards stand "
                "beside their index; the file is damaged or not to be trusted."
            )
    return named


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"'{path}' is not a readable safetensors file: {error}. It is damaged or was only partly "
        "copied; export or copy it again."
    )
