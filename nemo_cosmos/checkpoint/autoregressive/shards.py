"""Original checkpoints that tensor-parallel ranks wrote: one ``model_model_mp_<rank>.pt`` each.

Projections into heads and channels, the embedding and the output are cut into rows; projections out
of them into columns; norms are whole in every file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from nemo_cosmos.checkpoint.formats.tensors import TensorSource, TensorSpec, TensorStream
from nemo_cosmos.checkpoint.formats.torch import TorchFileSource
from nemo_cosmos.errors import CheckpointError, ConfigError, MissingFileError

_SHARD = re.compile(r"model_model_mp_(\d+)\.pt")
_ROWS = ("wq", "wk", "wv", "w1", "w3", "tok_embeddings", "output")
_COLUMNS = ("wo", "w2")


def shard_name(rank: int) -> str:
    """Return the file of one tensor-parallel rank."""
    return f"model_model_mp_{rank}.pt"


def shard_files(folder: Path) -> list[Path]:
    """Return the files of all ranks in a folder, in their order; none where there are none.

    Raises:
        MissingFileError: the file of a rank before the last one is missing.
    """
    found = {
        int(match[1]): file for file in folder.iterdir() if (match := _SHARD.fullmatch(file.name))
    }
    for rank in range(max(found, default=-1) + 1):
        if rank not in found:
            raise MissingFileError(
                f"'{folder}' holds {len(found)} parts of a tensor-parallel checkpoint, but not "
                f"'{shard_name(rank)}'. Copy the parts of all ranks into it."
            )
    return [found[rank] for rank in sorted(found)]


class ShardedSource:
    """The parts of all ranks as one checkpoint.

    Args:
        files: the files of all ranks, in their order.

    Raises:
        CheckpointError: a file is damaged, or they are not of one model.

    Attributes:
        num_parts: number of the files.
    """

    def __init__(self, files: list[Path]) -> None:
        self.num_parts = len(files)
        self._parts = [TorchFileSource(file) for file in files]
        self.place = str(files[0].parent)
        first = self._parts[0].specs
        for part, file in zip(self._parts, files, strict=True):
            if {name: spec.shape for name, spec in part.specs.items()} != {
                name: spec.shape for name, spec in first.items()
            }:
                raise CheckpointError(
                    f"'{file}' holds other weights than '{files[0]}'. They are of different "
                    "models, or of different numbers of ranks; copy the parts again."
                )
        self.specs = {name: self._whole(name, spec) for name, spec in first.items()}

    def _whole(self, name: str, spec: TensorSpec) -> TensorSpec:
        axis = split_axis(name)
        if axis is None:
            return spec
        shape = list(spec.shape)
        shape[axis] *= len(self._parts)
        return TensorSpec(tuple(shape), spec.dtype)

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor, put together.

        Raises:
            CheckpointError: the ranks' copies of a whole tensor differ.
        """
        parts = [part.read(name) for part in self._parts]
        axis = split_axis(name)
        if axis is not None:
            return torch.cat(parts, dim=axis)
        # Ranks of a training in 16 bits may drift apart by rounding; the published merge allows it.
        if any(not torch.allclose(part.float(), parts[0].float(), atol=5e-2) for part in parts):
            raise CheckpointError(
                f"The parts in '{self.place}' have different '{name}', which all ranks hold whole. "
                "They are of different trainings or steps; copy the parts of one."
            )
        return torch.stack([part.float() for part in parts]).mean(0).to(parts[0].dtype)


def split_axis(name: str) -> int | None:
    """Return the axis along which ranks share an original weight; None where each holds it."""
    kind = name.removesuffix(".weight").rpartition(".")[2]
    return 0 if kind in _ROWS else 1 if kind in _COLUMNS else None


def rank_stream(
    stream_source: TensorSource, names: list[str], rank: int, size: int
) -> TensorStream:
    """Return one rank's part of some original weights.

    Args:
        stream_source: the whole weights under original names.
        names: the weights.
        rank: number of the rank.
        size: number of ranks.

    Raises:
        ConfigError: a weight does not divide.
    """
    specs = {}
    for name in names:
        spec, axis = stream_source.specs[name], split_axis(name)
        shape = list(spec.shape)
        if axis is not None:
            if shape[axis] % size:
                raise ConfigError(
                    f"'{name}' has {shape[axis]} {'rows' if axis == 0 else 'columns'}, which do "
                    f"not divide over {size} ranks. Export it for fewer ranks."
                )
            shape[axis] //= size
        specs[name] = TensorSpec(tuple(shape), spec.dtype)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name in names:
            tensor, axis = stream_source.read(name), split_axis(name)
            part = tensor if axis is None else tensor.chunk(size, dim=axis)[rank]
            yield name, part.contiguous()

    return TensorStream(specs, tensors())
