"""State of callbacks that is split over ranks, inside NeMo's distributed checkpoints.

A callback adds ``ShardedTensor`` entries under its own name in ``on_save_checkpoint``;
Megatron-Core writes them with the model. NeMo's strategy loads only the model and the optimiser,
so a callback reads its part back itself, with the functions here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from nemo_cosmos.checkpoint.formats.nemo import read_metadata, verify_checkpoint, weights_folder
from nemo_cosmos.checkpoint.formats.tensors import check_fit

MODEL_PREFIX = "module."


def saved_keys(checkpoint: str | os.PathLike[str] | None) -> dict[str, tuple[int, ...]]:
    """Names and global shapes of the tensors in a checkpoint."""
    return _shapes(read_metadata(weights_folder(checkpoint)))


def check_loadable(
    checkpoint: str | os.PathLike[str],
    model_state: dict[str, object],
    kept: Callable[[str], bool] | None = None,
) -> None:
    """Require a checkpoint to be whole and of this model, before anything of it is loaded.

    Args:
        checkpoint: folder of a NeMo distributed checkpoint.
        model_state: this rank's sharded state of the model.
        kept: which of the checkpoint's weights are looked at; all by default.

    Raises:
        CheckpointError: it is incomplete, damaged or of another model; names what differs.
    """
    saved = _shapes(verify_checkpoint(checkpoint))
    expected = {
        entry.key: tuple(entry.global_shape)
        for entry in _values(model_state)
        if isinstance(entry, ShardedTensor)
    }
    found = {key: shape for key, shape in saved.items() if key.startswith(MODEL_PREFIX)}
    if kept is not None:
        found = {key: shape for key, shape in found.items() if kept(key)}
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:  # this rank has a part of it
        found = {key: shape for key, shape in found.items() if key in expected}
    check_fit(
        expected,
        found,
        str(checkpoint),
        "this run's model",
        "It is of another model: choose another name with log.name=..., or the recipe that the "
        "checkpoint was trained with.",
    )


def _shapes(table: Metadata) -> dict[str, tuple[int, ...]]:
    return {
        key: tuple(entry.size)
        for key, entry in table.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def _values(state: object) -> Iterator[object]:
    """Everything in a nested dictionary."""
    if isinstance(state, dict):
        for value in state.values():
            yield from _values(value)
    else:
        yield state


def load_sharded(checkpoint: str | os.PathLike[str] | None, state: dict[str, object]) -> Any:
    """Fill ``state``, a nested dictionary of sharded tensors, from a checkpoint.

    Args:
        checkpoint: folder of a NeMo distributed checkpoint.
        state: the tensors to read; a key that the checkpoint lacks is an error.

    Returns:
        the same nesting with plain tensors.
    """
    return dist_checkpointing.load(state, str(weights_folder(checkpoint)))
