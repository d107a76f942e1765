"""Post-training starts here: weights of an exported folder, loaded into a freshly built model."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from nemo.lightning.io.mixin import IOMixin
from torch import nn

from nemo_cosmos.checkpoint.safetensors_files import SafetensorsSource, has_weights
from nemo_cosmos.checkpoint.tensors import MAX_NAMED
from nemo_cosmos.errors import CheckpointError, nearest_names
from nemo_cosmos.models.diffusion.world import CONFIG_FILE, WEIGHTS_FILE

logger = logging.getLogger(__name__)


def is_exported(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is an export (``config.json`` and ``model.safetensors``)."""
    return (Path(folder) / CONFIG_FILE).is_file() and has_weights(Path(folder) / WEIGHTS_FILE)


class InitialWeights(pl.Callback, IOMixin):
    """Load an exported model's weights before the first step.

    Parameters that the export lacks are allowed where they are new, such as those of a control
    that post-training adds; they keep their initial values and are named in the log. Each rank
    reads only its slice of a tensor that is split over ranks.

    Hooks:

    - ``on_fit_start``: load, unless a checkpoint of this run is about to be restored; then copy the
      weights to the optimiser's float32 copies.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.new_names: list[str] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the weights."""
        if trainer.ckpt_path:
            return
        network = bare_network(pl_module)
        self.new_names = load_exported(network, Path(self.folder) / WEIGHTS_FILE)
        for optimizer in trainer.strategy.optimizers:
            optimizer.reload_model_params()
        if self.new_names:
            logger.info("New parameters, not in '%s': %s", self.folder, ", ".join(self.new_names))


def bare_network(module: Any) -> nn.Module:
    """The network inside a Lightning module, without Megatron's wrappers."""
    while isinstance(getattr(module, "module", None), nn.Module):
        module = module.module
    return module


@torch.no_grad()
def load_exported(network: nn.Module, weights: Path) -> list[str]:
    """Copy tensors of a safetensors file into a network.

    Args:
        network: may be split over tensor-parallel ranks.
        weights: of the whole network, in one file or in shards, with the names of
            ``network.state_dict()``.

    Returns:
        names of the network's parameters that the file lacks.

    Raises:
        CheckpointError: the file holds tensors that the network lacks, or of another shape, or
            shares no name with it.
    """
    state = network.state_dict(keep_vars=True)
    targets = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    slices = _slices(network)
    file = SafetensorsSource(weights)
    saved = set(file.specs)
    unknown = sorted(saved - targets.keys())
    if unknown or not saved:
        raise CheckpointError(
            f"'{weights}' holds {len(unknown)} tensors that this model does not have, such as "
            f"{', '.join(unknown[:MAX_NAMED])}. The nearest names of the model are "
            f"{nearest_names((unknown or [''])[0], targets)}. Use the recipe that the weights were "
            "trained with, or one that adds a control to it."
        )
    for name in sorted(saved):
        target = targets[name]
        part = file.read_part(name, slices.get(name, ()))
        if tuple(part.shape) != tuple(target.shape):
            raise CheckpointError(
                f"'{name}' has shape {file.specs[name].shape} in '{weights}' but "
                f"{tuple(target.shape)} in this model. Use the recipe that the weights were "
                "trained with."
            )
        target.copy_(part)
    return sorted(targets.keys() - saved)


def _slices(network: nn.Module) -> dict[str, tuple[slice, ...]]:
    """Which part of a whole tensor this rank holds, for tensors that Megatron splits."""
    sharded_state_dict = getattr(network, "sharded_state_dict", None)
    if sharded_state_dict is None:
        return {}
    parts = {}
    for name, entry in sharded_state_dict().items():
        if isinstance(entry, ShardedTensor):
            axes = entry.prepend_axis_num
            offsets, sizes = entry.global_offset[axes:], entry.local_shape
            parts[name] = tuple(
                slice(start, start + size) for start, size in zip(offsets, sizes, strict=True)
            )
    return parts
