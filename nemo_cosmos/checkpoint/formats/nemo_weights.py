"""A network's weights in a NeMo distributed checkpoint: by our names, and back.

Megatron-Core stacks equal layers: ``blocks.layers.3.mlp.linear_fc1.weight`` is row 3 of
``module.blocks.layers.mlp.linear_fc1.weight``. The network itself, built without memory on torch's
meta device, says which part of which tensor a weight is.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from megatron.core.dist_checkpointing.core import CheckpointingConfig, save_config
from megatron.core.dist_checkpointing.mapping import ShardedObject, ShardedTensor
from torch import Tensor, nn
from torch.distributed.checkpoint import filesystem, metadata

from nemo_cosmos.checkpoint.formats.nemo import (
    BACKEND,
    COMMON_FILE,
    FORMAT_FILE,
    TABLE_FILE,
    WEIGHTS_FOLDER,
    Box,
    NemoBoxes,
)
from nemo_cosmos.checkpoint.formats.tensors import TensorSpec, TensorStream, check_fit

PREFIX = "module."
EMA_PREFIX = "ema.module."
_DATA_FILE = "__0_0.distcp"
# What NeMo reads back with a checkpoint: how the optimiser's state, of which there is none, is laid
# out.
_CONTENT = {"singleton_local_shards": False, "distrib_optim_sharding_type": "fully_reshardable"}


@dataclass(frozen=True)
class _Place:
    """The place of a weight: a box in a tensor that may stack the weights of several layers."""

    key: str
    global_shape: tuple[int, ...]
    box: Box
    shape: tuple[int, ...]


def _places(net: nn.Module) -> dict[str, _Place]:
    """The place of every weight of a whole network."""
    places = {}
    for name, entry in _sharded_state(net).items():
        if isinstance(entry, ShardedTensor):
            stacked = entry.prepend_axis_num
            sizes = (1,) * stacked + tuple(entry.local_shape)
            box = (tuple(entry.global_offset), sizes)
            places[name] = _Place(entry.key, tuple(entry.global_shape), box, sizes[stacked:])
    return places


def _sharded_state(net: nn.Module) -> dict[str, object]:
    state: dict[str, object] = net.sharded_state_dict()  # type: ignore[operator]
    return state


def is_nemo_checkpoint(place: Path) -> bool:
    """Whether a folder is, or was meant to be, a NeMo distributed checkpoint."""
    folders = (place / WEIGHTS_FOLDER, place)
    return any(
        (folder / name).is_file() for folder in folders for name in (TABLE_FILE, FORMAT_FILE)
    )


class NemoSource:
    """A network's weights in a NeMo distributed checkpoint.

    Args:
        checkpoint: the checkpoint's folder.
        net: the network, on the meta device.
        use_average: whether to take the moving average, where training kept one.

    Raises:
        CheckpointError: it is incomplete, damaged or of another model.
    """

    def __init__(self, checkpoint: Path, net: nn.Module, use_average: bool = True) -> None:
        self._boxes = NemoBoxes(checkpoint)
        self.place = self._boxes.place
        has_average = any(key.startswith(EMA_PREFIX) for key in self._boxes.tensors)
        self.is_average = use_average and has_average
        self._places = _places(net)
        self._keys = {name: self._key_of(place) for name, place in self._places.items()}
        self._check()
        self.specs = {
            name: TensorSpec(place.shape, self._boxes.tensors[self._keys[name]].properties.dtype)
            for name, place in self._places.items()
        }

    def read(self, name: str) -> Tensor:
        """Return one weight; only its part of the files is read."""
        place = self._places[name]
        return self._boxes.read_box(self._keys[name], place.box).reshape(place.shape)

    def _key_of(self, place: _Place) -> str:
        """The key of the average, where there is one of this weight: buffers have none."""
        average = EMA_PREFIX + place.key
        if self.is_average and average in self._boxes.tensors:
            return average
        return PREFIX + place.key

    def _check(self) -> None:
        expected = {self._keys[name]: place.global_shape for name, place in self._places.items()}
        found = {
            key: tuple(entry.size)
            for key, entry in self._boxes.tensors.items()
            if key in expected or key.startswith(PREFIX)
        }
        if self.is_average:
            averaged = {key.removeprefix("ema.") for key in found if key.startswith(EMA_PREFIX)}
            found = {key: shape for key, shape in found.items() if key not in averaged}
        check_fit(
            expected,
            found,
            self.place,
            "this network",
            "Name the preset that it was trained with by --model.",
        )


def write_nemo_weights(checkpoint: Path, net: nn.Module, stream: TensorStream) -> None:
    """Write ``<checkpoint>/weights`` as Megatron-Core would, one tensor in memory at a time.

    Args:
        checkpoint: the checkpoint's folder.
        net: the network, on the meta device.
        stream: all its weights.
    """
    folder = checkpoint / WEIGHTS_FOLDER
    folder.mkdir(parents=True)
    places = _places(net)
    writer = _ChunkWriter(folder / _DATA_FILE)
    with writer:
        for name, tensor in stream.tensors:
            place = places[name]
            writer.add_tensor(place, tensor.reshape(place.box[1]))
        for entry in _sharded_state(net).values():
            if isinstance(entry, ShardedObject):
                writer.add_object(PREFIX + entry.unique_key, entry.data)
    table = metadata.Metadata(writer.entries, storage_data=writer.storage)
    (folder / TABLE_FILE).write_bytes(pickle.dumps(table))
    torch.save({"state_dict": {}, "content_metadata": _CONTENT}, folder / COMMON_FILE)
    save_config(CheckpointingConfig(BACKEND), str(folder))


class _ChunkWriter:
    """Appends tensors to a data file and keeps the table of their places."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.entries: dict[str, metadata.STORAGE_TYPES] = {}
        self._tensors: dict[str, metadata.TensorStorageMetadata] = {}
        self.storage: dict[metadata.MetadataIndex, filesystem._StorageInfo] = {}

    def __enter__(self) -> None:
        self._handle = self._file.open("wb")

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def add_tensor(self, place: _Place, tensor: Tensor) -> None:
        """Append one part of a tensor."""
        key, offsets = PREFIX + place.key, torch.Size(place.box[0])
        if key not in self._tensors:
            properties = metadata.TensorProperties(dtype=tensor.dtype)
            size = torch.Size(place.global_shape)
            self._tensors[key] = metadata.TensorStorageMetadata(properties, size, [])
            self.entries[key] = self._tensors[key]
        chunk = metadata.ChunkStorageMetadata(offsets, torch.Size(place.box[1]))
        self._tensors[key].chunks.append(chunk)
        self._append(metadata.MetadataIndex(key, offsets), tensor.contiguous())

    def add_object(self, key: str, value: object) -> None:
        """Append what is not a tensor: the state that a layer keeps beside its weights."""
        self.entries[key] = metadata.BytesStorageMetadata()
        self._append(metadata.MetadataIndex(key), [value])  # a list, as Megatron-Core has it

    def _append(self, index: metadata.MetadataIndex, value: object) -> None:
        begin = self._handle.tell()
        torch.save(value, self._handle)
        length = self._handle.tell() - begin
        self.storage[index] = filesystem._StorageInfo(self._file.name, begin, length)
