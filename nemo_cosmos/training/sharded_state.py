"""State of callbacks that is spread over ranks, inside NeMo's distributed checkpoints.

A callback adds ``ShardedTensor`` entries under its own name in ``on_save_checkpoint``;
Megatron-Core writes them with the model. NeMo's strategy loads only the model and the optimiser,
so a callback reads its part back itself, with the functions here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from megatron.core import dist_checkpointing

from nemo_cosmos.errors import CheckpointError

WEIGHTS_FOLDER = "weights"


def weights_folder(checkpoint: str | os.PathLike[str] | None) -> Path:
    """The folder with the distributed tensors of a NeMo checkpoint.

    Args:
        checkpoint: the checkpoint's folder, or the ``weights`` folder in it.

    Raises:
        CheckpointError: there is no distributed checkpoint.
    """
    folder = Path(checkpoint or "").with_suffix("") if checkpoint else Path()
    inner = folder / WEIGHTS_FOLDER
    folder = inner if inner.is_dir() else folder
    if checkpoint is None or not (folder / "metadata.json").is_file():
        raise CheckpointError(
            f"'{checkpoint}' is not a NeMo distributed checkpoint: it has no 'metadata.json' in "
            f"'{WEIGHTS_FOLDER}/'. Give the folder of one checkpoint, such as "
            "'<run>/checkpoints/step=1000'."
        )
    return folder


def saved_keys(checkpoint: str | os.PathLike[str] | None) -> dict[str, tuple[int, ...]]:
    """Names and global shapes of the tensors in a checkpoint."""
    metadata = dist_checkpointing.load_tensors_metadata(str(weights_folder(checkpoint)))
    return {key: tuple(tensor.global_shape) for key, tensor in metadata.items()}


def load_sharded(checkpoint: str | os.PathLike[str] | None, state: dict[str, Any]) -> Any:
    """Fill ``state``, a nested dictionary of sharded tensors, from a checkpoint.

    Args:
        checkpoint: folder of a NeMo distributed checkpoint.
        state: what to read; keys that the checkpoint lacks are an error.

    Returns:
        the same nesting with plain tensors.
    """
    return dist_checkpointing.load(state, str(weights_folder(checkpoint)))
